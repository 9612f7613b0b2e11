"""A video in a window: its pace, its keys, what they write, and what stands over the picture."""

import re

import numpy as np
import pytest

from emotion.errors import SourceError
from emotion.faces import Face
from emotion.images.decoding import read_image
from emotion.labels import EMOTIONS
from emotion.video import viewing
from emotion.video.overlays import (
    annotated,
    mirrored,
    with_caption,
    with_help,
    with_message,
    with_recording,
)
from emotion.video.reading import Video, VideoInfo, frames, open_video
from emotion.video.tracking import FrameFaces, TrackedFace
from emotion.video.viewing import Viewer
from emotion.video.windows import BARS, HELP, MIRROR, PAUSE, QUIT, RECORD, SNAPSHOT, STEP

SIZE_WH = (640, 480)
BOX = (100, 150, 120, 120)


class FakeDesk:
    """Stands in for a window and a clock: asks for things, and lets the time pass that is waited.

    `asks` has, for each time that a picture is shown, what the person asks for then.
    """

    def __init__(self, asks=(), work_s=0.0):
        self.asks, self.work_s, self.now_s = list(asks), work_s, 100.0
        self.shown, self.times_s = [], []

    def clock(self):
        return self.now_s

    def show(self, view, wait_s=0.0):
        self.shown.append(view)
        self.times_s.append(round(self.now_s - 100, 3))
        action = self.asks.pop(0) if self.asks else None
        # a key is pressed at once; without one the whole time is waited
        self.now_s += 0.001 if action else max(0.001, wait_s)
        return action


def seen(index=0, fps=10.0):
    """Return a frame with one face left of its middle."""
    probabilities = dict.fromkeys(EMOTIONS, 0.05) | {"happy": 0.7}
    face = Face(BOX, 5.0, probabilities)
    image = np.full((SIZE_WH[1], SIZE_WH[0], 3), 90 + index, np.uint8)
    image[:, :320] += 40
    return FrameFaces(index, index / fps, image, (TrackedFace(7, face, probabilities, True),))


def viewer_of(desk, folder=None, is_live=True):
    video = Video("film.mp4", is_live, VideoInfo(10.0, SIZE_WH))
    return Viewer(desk, video, folder=folder, clock=desk.clock)


def show_all(desk, count=3, folder=None, is_live=True):
    """Show frames until the person quits; return how many got an answer to go on."""
    with viewer_of(desk, folder, is_live) as viewer:
        answers = []
        for index in range(count):
            answers.append(viewer.show(seen(index)))
            if not answers[-1]:
                break
    return answers, viewer.saved


def test_live_frames_are_shown_at_once():
    desk = FakeDesk()
    assert show_all(desk, 5)[0] == [True] * 5
    assert len(desk.shown) == 5
    assert desk.times_s[-1] < 0.02


def test_frames_of_a_file_are_shown_in_their_time():
    desk = FakeDesk()
    show_all(desk, 4, is_live=False)
    assert desk.now_s - 100 == pytest.approx(0.3, abs=0.02)
    # the window is looked at all the while: it may be closed
    assert max(np.diff(desk.times_s)) < 0.06


def test_a_file_that_fell_behind_goes_on_at_its_own_speed():
    desk = FakeDesk()
    with viewer_of(desk, is_live=False) as viewer:
        viewer.show(seen(0))
        desk.now_s += 5  # the frame took so long
        viewer.show(seen(1))
        behind_s = desk.now_s
        viewer.show(seen(2))
    assert desk.now_s - behind_s == pytest.approx(0.1, abs=0.02)


def test_quitting_ends_it():
    desk = FakeDesk([None, QUIT])
    assert show_all(desk)[0] == [True, False]


def test_a_pause_holds_a_file_until_the_key_comes_again():
    desk = FakeDesk([PAUSE, None, None, None, PAUSE])
    assert show_all(desk, 2, is_live=False)[0] == [True, True]
    assert len(desk.shown) == 7  # five of the first frame, the end of its pause, the second
    changed = [(desk.shown[1] != view).any() for view in desk.shown[2:5]]
    assert not any(changed)


def test_a_pause_holds_a_live_picture_while_frames_go_on():
    desk = FakeDesk([PAUSE, None, None, None, PAUSE])
    assert show_all(desk, 6)[0] == [True] * 6
    corners = [view[0, 0, 0] for view in desk.shown]
    assert corners == [130] * 6 + [134, 135]


@pytest.mark.parametrize("is_live", [True, False])
def test_a_pause_can_be_stepped_through_and_quit(is_live):
    desk = FakeDesk([PAUSE, STEP, None, STEP, None, QUIT])
    answers, _ = show_all(desk, 9, is_live=is_live)
    assert answers[-1] is False
    corners = [view[0, 0, 0] for view in desk.shown]
    assert corners == [130, 130, 131, 131, 133, 133] if is_live else [130, 130, 131, 131, 132, 132]


@pytest.mark.parametrize("action", [BARS, MIRROR, HELP])
def test_what_is_switched_on_shows_at_once_and_can_be_switched_off(action):
    desk = FakeDesk([PAUSE, None, action, None, action, None, QUIT])
    show_all(desk, 1, is_live=False)
    before, switched, after = desk.shown[2], desk.shown[3], desk.shown[5]
    assert (before != switched).any()
    assert np.array_equal(before, after)


def test_mirroring_takes_the_boxes_along_and_leaves_words_readable():
    turned = mirrored(seen())
    assert turned.faces[0].face.box_xywh == (640 - 100 - 120, 150, 120, 120)
    assert np.array_equal(turned.image, seen().image[:, ::-1])
    label = annotated(seen(), bars=False)[100:148, 90:300]
    moved = annotated(turned, bars=False)[100:148, 410:620]
    is_yellow = [(part == (240, 228, 66)).all(axis=2) for part in (label, moved)]
    assert is_yellow[0].sum() == is_yellow[1].sum() > 500


def test_a_snapshot_has_the_full_picture_without_what_stands_over_it(tmp_path):
    desk = FakeDesk([HELP, SNAPSHOT, SNAPSHOT])
    _, saved = show_all(desk, 3, tmp_path)
    assert len({path.name for path in saved}) == 2
    assert re.fullmatch(r"snapshot-\d{8}-\d{6}\.png", saved[0].name)
    assert np.array_equal(read_image(saved[0]), annotated(seen()))
    assert sorted(saved) == sorted(tmp_path.iterdir())


def test_a_recording_holds_what_is_shown_in_real_time(tmp_path):
    desk = FakeDesk([None, RECORD, None, None, BARS, None, RECORD])
    _, saved = show_all(desk, 8, tmp_path)
    assert len(saved) == 1
    with open_video(saved[0]) as video:
        found = list(frames(video))
    assert [frame.timestamp_s for frame in found] == pytest.approx([0, 0.1, 0.2, 0.3], abs=0.01)
    with_bars = annotated(seen(1)).astype(int)
    assert abs(found[0].image - with_bars).mean() < 4


def test_a_recording_is_kept_when_the_person_quits(tmp_path):
    desk = FakeDesk([RECORD, None, None, QUIT])
    _, saved = show_all(desk, 5, tmp_path)
    assert [path.suffix for path in saved] == [".mp4"]
    assert list(tmp_path.iterdir()) == saved


def test_a_file_that_cannot_be_written_is_told_in_the_window(tmp_path, monkeypatch):
    def refuse(path, image):
        raise SourceError("the disk is full")

    monkeypatch.setattr(viewing, "write_image", refuse)
    desk = FakeDesk([PAUSE, None, SNAPSHOT, None, QUIT])
    answers, saved = show_all(desk, 1, tmp_path, is_live=False)
    assert (answers, saved) == ([False], [])
    before, told = desk.shown[1], desk.shown[3]
    rows, columns = np.nonzero((before != told).any(axis=2))
    assert rows.min() > 400
    assert columns.min() > 320


def test_keys_are_told_at_first_and_the_rate_later(monkeypatch):
    captions = []
    draw = viewing.with_caption
    monkeypatch.setattr(
        viewing, "with_caption", lambda view, text: captions.append(text) or draw(view, text)
    )
    desk = FakeDesk()
    with viewer_of(desk) as viewer:
        for index in range(4):
            viewer.show(seen(index))
            desk.now_s += 2.0
    assert captions[0] == "q quits, space pauses, h shows all keys"
    assert captions[-1] == "0.5 frames per second"


@pytest.mark.parametrize(
    ("draw", "rows", "columns"),
    [
        (lambda view: with_caption(view, "25.0 frames per second"), (440, 480), (0, 320)),
        (lambda view: with_message(view, "saved a.png"), (440, 480), (400, 640)),
        (lambda view: with_recording(view, 65), (0, 60), (480, 640)),
        (lambda view: with_help(view, [("q", "quit"), ("space", "pause")]), (140, 340), (120, 520)),
    ],
)
def test_words_stand_in_their_place(draw, rows, columns):
    view = seen().image
    before = view.copy()
    drawn = draw(view)
    assert np.array_equal(view, before)
    changed_rows, changed_columns = np.nonzero((drawn != view).any(axis=2))
    assert rows[0] <= changed_rows.min()
    assert changed_rows.max() < rows[1]
    assert columns[0] <= changed_columns.min()
    assert changed_columns.max() < columns[1]
    assert drawn.max() > 200


def test_words_wider_than_the_picture_are_cut_off():
    view = np.zeros((20, 30, 3), np.uint8)
    for drawn in (with_caption(view, "a" * 80), with_help(view, [("q", "quit")] * 9)):
        assert drawn.shape == view.shape
