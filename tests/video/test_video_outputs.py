import json
import sys
from contextlib import nullcontext

import pandas as pd
import pytest
from video_files import moving_faces, read_all, video_with_sound, write_pictures

from emotion.detection.haar import FaceDetector
from emotion.errors import EmotionError, SourceError
from emotion.recognizer import Recognizer
from emotion.video.following import VIDEO_SEARCH
from emotion.video.outputs import VideoOutputs, analyse_video
from emotion.video.reading import open_video
from emotion.video.summary import SummaryBuilder

SIZE_WH = (480, 240)
COUNT = 12


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    return write_pictures(path, moving_faces(COUNT, SIZE_WH))


@pytest.fixture
def analyse(stand_in_model, film):
    def run(outputs=None, path=film, **options):
        recognizer = Recognizer(stand_in_model, FaceDetector(VIDEO_SEARCH))
        with open_video(path) as video:
            return analyse_video(recognizer, video, outputs or VideoOutputs(), **options)

    return run


def everything(folder):
    tables = tuple(folder / f"faces{suffix}" for suffix in (".csv", ".jsonl", ".parquet"))
    others = (folder / name for name in ("summary.json", "timeline.png"))
    return VideoOutputs(folder / "out.mp4", tables, *others)


def check_files(outputs, count):
    """All files hold the first frames and no more; the summary, which is returned, says so."""
    read = pd.read_csv, lambda path: pd.read_json(path, lines=True), pd.read_parquet
    for path, table in zip(outputs.tables, read, strict=True):
        assert sorted(set(table(path)["frame"])) == list(range(count))
    times_s = [frame.timestamp_s for frame in read_all(outputs.video)[1]]
    assert times_s == pytest.approx([index / 10 for index in range(count)], abs=0.01)
    summary = json.loads(outputs.summary.read_text())
    assert (summary["frames"], summary["is_complete"]) == (count, count == COUNT)
    assert outputs.timeline.read_bytes().startswith(b"\x89PNG")
    assert len(list(outputs.video.parent.iterdir())) == 6
    return summary


def test_a_video_becomes_all_its_files(analyse, tmp_path):
    outputs, seen = everything(tmp_path), []
    report = analyse(outputs, viewers=[lambda frame: seen.append(frame.index)])
    assert seen == list(range(COUNT))
    assert (report.is_complete, report.sound_problem) == (True, None)
    (track,) = report.summary.tracks
    assert track.seconds == pytest.approx(1.2, abs=0.01)
    summary = check_files(outputs, COUNT)
    assert (summary["video"], summary["model"]["name"]) == ("film.mp4", "stand_in")
    assert summary["problem"] is None
    with_bars = read_all(outputs.video)[1][0].image.astype(int)
    analyse(VideoOutputs(outputs.video, bars=False))
    assert abs(read_all(outputs.video)[1][0].image - with_bars).mean() > 5


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, SourceError("the camera is gone")])
def test_stopped_or_interrupted_all_files_hold_what_is_done(analyse, tmp_path, error):
    outputs, builder = everything(tmp_path), SummaryBuilder()

    def view(seen):
        if error and seen.index == 3:
            raise error
        return seen.index < 3

    expected = pytest.raises((KeyboardInterrupt, SourceError)) if error else nullcontext()
    with expected:
        report = analyse(outputs, viewers=[builder.add, view])
        assert (report.is_complete, report.summary.frames) == (False, 4)
    check_files(outputs, 4)
    assert builder.result().frames == 4


def test_a_damaged_file_is_reported(analyse, tmp_path):
    path = write_pictures(tmp_path / "cut.avi", moving_faces(20, SIZE_WH))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    report = analyse(VideoOutputs(summary=tmp_path / "summary.json"), path)
    assert not report.is_complete
    assert 5 < report.summary.frames < 15
    assert "damaged" in json.loads((tmp_path / "summary.json").read_text())["problem"]


@pytest.mark.parametrize(
    ("kind", "name", "word"),
    [
        ("video", "out.gif", "expected"),
        ("tables", "a.xls", "expected"),
        ("summary", "no/a.json", "No such"),
        ("timeline", "no/a.png", "No such"),
        ("timeline", "a.png", "pip install matplotlib"),
    ],
)
def test_an_unwritable_file_is_a_sentence(analyse, tmp_path, monkeypatch, kind, name, word):
    if "pip" in word:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = tmp_path / name
    with pytest.raises(EmotionError, match=word):
        analyse(
            VideoOutputs(**{kind: [path] if kind == "tables" else path}),
            viewers=[lambda frame: "no/" in name or pytest.fail("it was begun")],
        )
    assert not list(tmp_path.iterdir())


def test_what_became_of_the_sound_is_told(analyse, tmp_path, monkeypatch):
    def no_sound(*_):
        raise SourceError("expected sound; received noise")

    monkeypatch.setattr("emotion.video.writing.Sound", no_sound)
    film = video_with_sound(tmp_path / "film.mp4", count=5)
    report = analyse(VideoOutputs(tmp_path / "out.mp4"), film)
    assert (report.is_complete, report.sound_problem) == (True, "expected sound; received noise")
