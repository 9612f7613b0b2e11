"""The parts of the live page's scripts that calculate: words, tracks, and the pace of frames."""

import numpy as np
import pytest
from web_support import make_app

from emotion.faces import Face, short_verdict
from emotion.labels import EMOTIONS
from emotion.recognizer import Recognizer
from emotion.text import percent
from emotion.web.photos.live import words_for_script


@pytest.fixture(scope="module")
def reckon(browser, serve, tmp_path_factory):
    """Give a function that runs a function of JavaScript with what a script of ours exports."""
    page = browser.new_page()
    page.goto(serve(make_app(tmp_path_factory.mktemp("script"), PORT=0)) + "/live")

    def reckon(script, function, *arguments):
        run = f"async (all) => ({function})(await import('/static/{script}'), ...all)"
        return page.evaluate(run, arguments)

    yield reckon
    page.close()


ROWS = (
    (0.02, 0.01, 0.02, 0.9, 0.03, 0.01, 0.01),
    (0.41, 0.01, 0.38, 0.05, 0.05, 0.05, 0.05),
    (0.3, 0.0, 0.28, 0.05, 0.06, 0.05, 0.26),
    (0.25, 0.0, 0.25, 0.25, 0.0, 0.25, 0.0),
    (0.45, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05),
    (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
)


def test_the_script_words_answers_as_the_program_does(reckon):
    shipped = Recognizer.load()
    function = """({read, percent}, probabilities, words) =>
        [read({probabilities}, words).words, percent(Math.max(...Object.values(probabilities)))]"""
    for row in ROWS:
        probabilities = dict(zip(EMOTIONS, row, strict=True))
        face = Face((0, 0, 9, 9), 1.0, probabilities, sure=shipped.thresholds.met_by(row))
        received = reckon("live_faces.js", function, probabilities, words_for_script(shipped))
        assert received == [short_verdict(face), percent(max(row))]


FOLLOW = """({Tracks}, answers) => {
    const tracks = new Tracks();
    return answers.map((faces, index) => {
        const told = faces.map(([x, happy]) => ({
            box: {x, y: 10, width: 20, height: 20}, notes: [],
            probabilities: {happy, sad: 1 - happy},
        }));
        tracks.update({image: {width: 200, height: 100}, faces: told}, 1000 + index * 100);
        return tracks.list.map((track) => [track.box[0] * 200, track.probabilities.happy]);
    });
}"""


def test_an_answer_that_flickers_is_averaged_and_faces_keep_their_own(reckon):
    answers = [[[10 + 2 * index, 0.9 if index % 3 else 0.2]] for index in range(30)]
    shown = reckon("live_faces.js", FOLLOW, answers)
    happy = [faces[0][1] for faces in shown[10:]]
    assert max(happy) - min(happy) < 0.25
    assert np.mean(happy) == pytest.approx((0.9 + 0.9 + 0.2) / 3, abs=0.05)
    assert abs(shown[-1][0][0] - answers[-1][0][0]) < 2, "the box keeps up"
    calm, glad = [10, 0.0], [100, 1.0]
    shown = reckon("live_faces.js", FOLLOW, [[calm, glad], [glad, calm], [calm], [calm], []])
    # a face that is missed once stays
    assert shown[1:4] == [[calm, glad], [calm, glad], [calm]]


PACE = """({Pace}, answers) => {
    const pace = new Pace();
    for (const [times, roundTripMs, serverMs] of answers)
        for (let time = 0; time < times; time += 1) pace.answered(roundTripMs, serverMs, time);
    return [pace.frame.side, pace.mostUnderway, pace.isReduced];
}"""
PACES = {
    "at first": ([(4, 900, 800)], [640, 1, False]),
    "slow": ([(5, 900, 800), (5, 500, 400)], [320, 1, True]),
    "very slow": ([(2, 4000, 3900)], [480, 1, True]),
    "fast": ([(40, 50, 40)], [960, 1, False]),
    "fast, then slow": ([(40, 50, 40), (5, 900, 800)], [640, 1, True]),
    # a long way makes all sizes slow: smaller ones would be a loss
    "far": ([(60, 600, 30)], [640, 2, False]),
}


def test_the_size_of_frames_follows_the_server(reckon):
    for name, (answers, expected) in PACES.items():
        assert reckon("live_pace.js", PACE, answers) == expected, name


def test_who_is_refused_comes_back_later_each_time_and_less_often(reckon):
    function = """({Pace}) => {
        const pace = new Pace();
        const waits = [1, 2, 3, 4].map(() => pace.refused(2));
        const slow = pace.intervalMs;
        for (let time = 0; time < 100; time += 1) pace.answered(50, 40, time);
        return [waits, slow, pace.intervalMs];
    }"""
    waits, slow_ms, fast_ms = reckon("live_pace.js", function)
    assert all(2000 * 2**times <= wait <= 2500 * 2**times for times, wait in enumerate(waits))
    assert slow_ms > 10 * fast_ms
