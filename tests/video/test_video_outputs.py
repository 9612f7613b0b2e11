"""A whole video to its files: what they hold at the end, when stopped, and when interrupted."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from video_files import moving_faces, video_with_sound, write_pictures

from emotion.detection.haar import FaceDetector
from emotion.errors import EmotionError, SourceError
from emotion.recognizer import Recognizer
from emotion.video.following import VIDEO_SEARCH
from emotion.video.outputs import Progress, VideoOutputs, analyse_video
from emotion.video.reading import frames, open_video
from emotion.video.summary import SummaryBuilder

SIZE_WH = (240, 180)
COUNT = 12


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Return a video of 12 frames, 10 a second, of one face."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    return write_pictures(path, moving_faces(COUNT, SIZE_WH))


@pytest.fixture
def recognizer(stand_in_model):
    return Recognizer(stand_in_model, FaceDetector(VIDEO_SEARCH))


def everything(folder):
    return VideoOutputs(
        folder / "out.mp4",
        (folder / "faces.csv", folder / "faces.jsonl", folder / "faces.parquet"),
        folder / "summary.json",
        folder / "timeline.png",
    )


def analyse(recognizer, film, outputs=None, **options):
    with open_video(film) as video:
        return analyse_video(recognizer, video, outputs or VideoOutputs(), **options)


def frames_of(path):
    with open_video(path) as video:
        return list(frames(video))


def table_frames(folder):
    """Return the numbers of the frames in each table."""
    return [
        sorted(set(table["frame"]))
        for table in (
            pd.read_csv(folder / "faces.csv"),
            pd.read_json(folder / "faces.jsonl", lines=True),
            pd.read_parquet(folder / "faces.parquet"),
        )
    ]


def test_a_video_becomes_all_its_files(recognizer, film, tmp_path):
    outputs = everything(tmp_path)
    told = []
    options = {"on_progress": lambda progress: told.append(progress) or True}
    report = analyse(recognizer, film, outputs, **options)
    assert [progress.frames_done for progress in told] == list(range(1, COUNT + 1))
    assert (told[-1].frame_count, told[-1].share) == (COUNT, 1)
    assert told[-1].position_s == pytest.approx(1.1)
    assert told[-1].rate > 0
    assert (report.is_complete, report.problem) == (True, None)
    assert report.summary.frames == COUNT
    (track,) = report.summary.tracks
    assert track.seconds == pytest.approx(1.2, abs=0.01)
    assert table_frames(tmp_path) == [list(range(COUNT))] * 3
    assert [frame.timestamp_s for frame in frames_of(outputs.video)] == pytest.approx(
        [index / 10 for index in range(COUNT)], abs=0.01
    )
    summary = json.loads(outputs.summary.read_text())
    assert summary["video"] == "film.mp4"
    assert summary["model"]["name"] == "stand_in"
    assert (summary["is_complete"], summary["problem"], summary["frames"]) == (True, None, COUNT)
    assert outputs.timeline.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 6


def test_boxes_and_bars_are_drawn_when_asked(recognizer, tmp_path):
    film = write_pictures(tmp_path / "film.mp4", moving_faces(2, (640, 240))[:1] * 2)
    pictures = []
    for bars in (True, False):
        path = tmp_path / f"{bars}.mp4"
        analyse(recognizer, film, VideoOutputs(video=path, bars=bars))
        pictures.append(frames_of(path)[0].image.astype(int))
    original = frames_of(film)[0].image
    assert all(abs(picture - original).max() > 100 for picture in pictures)
    with_bars, without = pictures
    assert abs(with_bars - without).mean() > 5


def test_share_is_told_where_the_end_is_known():
    assert Progress(5, 20, 1.0, 4.0, 0.0).share == Progress(5, None, 1.0, 4.0, 0.0).share == 0.25
    assert Progress(25, 20, 1.0, 4.0, 0.0).share == 1
    assert Progress(5, None, 1.0, None, 0.0).share is None


def test_stopped_in_the_middle_all_files_hold_what_is_done(recognizer, film, tmp_path):
    outputs = everything(tmp_path)
    viewers = [lambda seen: seen.index < 3, lambda seen: True]
    report = analyse(recognizer, film, outputs, viewers=viewers)
    assert not report.is_complete
    assert report.summary.frames == 4
    assert table_frames(tmp_path) == [[0, 1, 2, 3]] * 3
    assert len(frames_of(outputs.video)) == 4
    assert json.loads(outputs.summary.read_text())["is_complete"] is False
    assert outputs.timeline.exists()
    assert (
        analyse(recognizer, film, on_progress=lambda told: told.frames_done < 2).summary.frames == 2
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SourceError("the camera is gone")])
def test_interrupted_all_files_hold_what_is_done(recognizer, film, tmp_path, error):
    builder = SummaryBuilder()
    outputs = replace(everything(tmp_path), timeline=None)

    def interrupt(seen):
        if seen.index == 5:
            raise error
        return True

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        analyse(recognizer, film, outputs, viewers=[interrupt], builder=builder)
    assert table_frames(tmp_path) == [[0, 1, 2, 3, 4, 5]] * 3
    assert len(frames_of(outputs.video)) == 6
    assert json.loads(outputs.summary.read_text())["frames"] == 6
    assert builder.result().frames == 6
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_file_is_reported(recognizer, film, tmp_path):
    path = tmp_path / "cut.avi"
    write_pictures(path, moving_faces(20, SIZE_WH))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    report = analyse(recognizer, path, VideoOutputs(summary=tmp_path / "summary.json"))
    assert not report.is_complete
    assert 5 < report.summary.frames < 15
    assert report.problem
    assert json.loads((tmp_path / "summary.json").read_text())["problem"] == report.problem


def test_mirrored_boxes_are_on_the_other_side(recognizer, film):
    seen = []
    keep = [lambda frame: seen.append(frame) or len(seen) < 3]
    analyse(recognizer, film, viewers=keep, is_mirrored=True)
    x, _, width, _ = seen[0].faces[0].face.box_xywh
    # the face begins at the left
    assert x + width / 2 == pytest.approx(SIZE_WH[0] - 60, abs=15)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("video", "out.gif"), ("tables", "out.xls"), ("summary", "out.txt"), ("timeline", "out.pdf")],
)
def test_unknown_kinds_of_files_are_refused_before_the_first_frame(
    recognizer, film, tmp_path, kind, name
):
    path = tmp_path / name
    outputs, seen = VideoOutputs(**{kind: (path,) if kind == "tables" else path}), []
    with pytest.raises(EmotionError, match="expected"):
        analyse(recognizer, film, outputs, viewers=[seen.append])
    assert not seen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", [False, True])
def test_what_became_of_the_sound_is_told(recognizer, tmp_path, monkeypatch, fails):
    def no_sound(*_):
        raise SourceError("expected sound; received noise")

    if fails:
        monkeypatch.setattr("emotion.video.writing.open_sound", no_sound)
    film = video_with_sound(tmp_path / "film.mp4", count=5)
    report = analyse(recognizer, film, VideoOutputs(tmp_path / "out.mp4"))
    assert report.is_complete
    assert report.sound_problem == ("expected sound; received noise" if fails else None)
