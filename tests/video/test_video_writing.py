# ruff: noqa: PT012 - what is interrupted ends by raising

import itertools
import signal
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_files import clicks, picture, read_all, run_alone, video_with_sound, write_pictures

from emotion.errors import SourceError
from emotion.video import writing
from emotion.video.reading import VideoInfo, frames, open_video
from emotion.video.writing import VIDEO_OUTPUT_SUFFIXES, VideoSink


def write(path, times_s, size_wh=(64, 48), is_steady=True, is_live=False):
    info = VideoInfo(20.0 if is_steady else 10.0, size_wh, is_steady=is_steady)
    with VideoSink(path, info, is_live=is_live) as sink:
        for index, time_s in enumerate(times_s):
            sink.write(picture(index, size_wh), time_s)
    return path


def carry(source, target):
    with open_video(source) as video, VideoSink(target, video.info, sound_of=source) as sink:
        for frame in frames(video):
            sink.write(frame.image, frame.timestamp_s)
    return sink


def clicks_heard_s(path):
    """Return when loud clicks begin in the sound of a file, after its first frame, and its end."""
    start_s = read_all(path)[0].info.start_s
    with av.open(str(path)) as container:
        loud_s, end_s = [], 0.0
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray().astype(float)
            samples = samples.mean(0) if frame.format.is_planar else samples.reshape(-1)
            level = 0.3 * (32768 if frame.format.name.startswith("s16") else 1)
            places = np.flatnonzero(np.abs(samples) > level)
            loud_s.extend(frame.time + places / frame.sample_rate - start_s)
            end_s = frame.time + frame.samples / frame.sample_rate - start_s
    begins = [i == 0 or moment - loud_s[i - 1] > 0.1 for i, moment in enumerate(loud_s)]
    return list(itertools.compress(loud_s, begins)), end_s


def codec_of(path, kind="video"):
    with av.open(str(path)) as container:
        return container.streams.best(kind).codec_context.codec.canonical_name


CODECS = {".webm": "vp9", ".avi": "mjpeg"}


@pytest.mark.parametrize("suffix", [*VIDEO_OUTPUT_SUFFIXES, ".MP4"])
@pytest.mark.parametrize(
    ("size_wh", "written_wh", "is_live"),
    [((64, 48), (64, 48), True), ((65, 49), (66, 50), False)],
    ids=["live", "odd"],
)
def test_what_is_written_reads_back(tmp_path, suffix, size_wh, written_wh, is_live):
    times_s = [index / 20 for index in range(7)]
    path = write(tmp_path / f"out{suffix}", times_s, size_wh, is_live=is_live)
    video, found = read_all(path)
    assert (video.info.size_wh, video.info.fps) == (written_wh, 20)
    assert video.info.duration_s == pytest.approx(0.35, abs=0.002)
    assert [frame.timestamp_s for frame in found] == pytest.approx(times_s)
    for index, frame in enumerate(found):
        # compressed colours differ a little; swapped ones would differ by 100
        cut = frame.image[: size_wh[1], : size_wh[0]].astype(int)
        assert abs(cut - picture(index, size_wh)).mean() < 8
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    # what browsers play, its index first
    assert codec_of(path) == CODECS.get(suffix, "h264")
    content = path.read_bytes()
    assert b"moov" not in content or content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_uneven_and_equal_times_are_kept(tmp_path, suffix):
    times_s = [0.0, 0.1, 0.15, 0.5, 1.2, 1.25]
    later_s = [3.0 + time_s for time_s in times_s]
    video, found = read_all(write(tmp_path / f"out{suffix}", later_s, is_steady=False))
    assert [frame.timestamp_s for frame in found] == pytest.approx(times_s, abs=0.001)
    assert video.info.start_s == 0
    tail_s = 0.01 if suffix == ".avi" else 0.1
    assert video.info.duration_s == pytest.approx(1.25 + tail_s, abs=0.002)
    found = read_all(write(tmp_path / f"b{suffix}", [0.0, 0.0, 0.0, 0.2], is_steady=False))[1]
    assert len(found) == 4
    if suffix != ".webm":  # which knows only milliseconds
        assert found[-1].timestamp_s == pytest.approx(0.2, abs=0.001)


PATCHES = (
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128)),
    *((224, 172, 150), (60, 40, 30), (255, 255, 0), (0, 255, 255), (255, 0, 255), (16, 16, 16)),
)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
@pytest.mark.parametrize("side", [48, 730])
def test_colours_do_not_shift_and_are_tagged_for_browsers(tmp_path, suffix, side):
    path, step = tmp_path / f"out{suffix}", side * 4 // 3
    image = np.repeat(np.uint8([PATCHES] * side), step, axis=1)
    with VideoSink(path, VideoInfo(10.0, image.shape[1::-1])) as sink:
        sink.write(image, 0.0)
    readers = read_all(path)[1][0].image, cv2.VideoCapture(str(path)).read()[1][..., ::-1]
    for found, (index, colour) in itertools.product(readers, enumerate(PATCHES)):
        middle = found[8:-8, index * step + step // 3 : index * step + 2 * step // 3]
        assert np.abs(middle.mean((0, 1)) - colour).max() <= 3, colour
    # FFmpeg's numbers of BT.709 and limited range; motion JPEG is BT.601 and full range
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == ((5, 2) if suffix == ".avi" else (1, 1))


@pytest.mark.parametrize(
    ("source", "target", "codec"),
    [
        *((source, ".mp4", "aac") for source in (".mp4", ".webm", ".ts")),
        (".mp4", ".avi", "pcm_s16le"),
        (".mp4", ".webm", "opus"),
        (".webm", ".webm", "opus"),
        (".mpg", ".mkv", "aac"),
    ],
)
def test_sound_stays_in_time_and_is_copied_if_possible(tmp_path, capfd, source, target, codec):
    path, out = video_with_sound(tmp_path / f"in{source}"), tmp_path / f"out{target}"
    sink = carry(path, out)
    moments_s, end_s = clicks_heard_s(out)
    assert moments_s == pytest.approx(clicks_heard_s(path)[0], abs=0.003)
    assert moments_s == pytest.approx([0.5, 1.5], abs=0.03)
    assert end_s == pytest.approx(2.0, abs=0.06)
    assert sink.sound_problem is None
    assert capfd.readouterr() == ("", "")
    assert codec_of(out, "audio") == codec
    if codec_of(path, "audio") == codec and source != ".ts":
        with av.open(str(path)) as before, av.open(str(out)) as after:
            wanted = [bytes(packet) for packet in before.demux(audio=0) if packet.size]
            found = [bytes(packet) for packet in after.demux(audio=0) if packet.size]
        assert len(found) > 90
        assert found == wanted[: len(found)]


@pytest.mark.parametrize(("target", "codec"), [(".mp4", "aac"), (".mp4", "mp2"), (".webm", "aac")])
@pytest.mark.parametrize(("picture_s", "sound_s"), [(0.0, 0.7), (0.7, 0.0)])
def test_what_starts_later_stays_in_time(tmp_path, target, codec, picture_s, sound_s):
    path, out = tmp_path / "in.mkv", tmp_path / f"out{target}"
    times_s = [picture_s + i / 10 for i in range(13)]
    sound = clicks(2.0 - sound_s, [1.0 - sound_s])
    pictures = [picture(i) for i in range(13)]
    write_pictures(path, pictures, 10.0, times_s, sound, sound_s, sound_codec=codec)
    carry(path, out)
    assert clicks_heard_s(out)[0] == pytest.approx([1.0 - picture_s], abs=0.03)
    assert read_all(out)[1][0].timestamp_s == 0


def test_damaged_sound_is_read_over_and_told(tmp_path):
    path = tmp_path / "in.mp4"
    pictures = [picture(i, (64, 48)) for i in range(40)]
    write_pictures(path, pictures, sound=clicks(4.0, [1.0, 3.5]), sound_codec="mp2")
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.size]
    content = bytearray(path.read_bytes())
    for place in places[80:90]:
        content[place : place + 200] = bytes(200)
    path.write_bytes(content)
    sink = carry(path, tmp_path / "out.mp4")
    assert clicks_heard_s(tmp_path / "out.mp4")[0] == pytest.approx([1.0, 3.5], abs=0.05)
    assert "damaged near 1.9 s" in sink.sound_problem or "damaged near 2." in sink.sound_problem


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_interruption_at_any_moment_loses_no_frame(tmp_path, suffix):
    path, image = tmp_path / f"out{suffix}", picture()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), VideoSink(path, VideoInfo(30.0, (160, 120))) as sink:
            sink.write(image, 0.0)
            signal.setitimer(signal.ITIMER_REAL, 0.08)
            for index in itertools.count(1):
                sink.write(image, index / 30)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    video, found = read_all(path)
    assert video.problem is None
    assert len(found) == round(video.info.duration_s * 30)


def test_video_without_frames_leaves_what_was_there(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"before")
    write(path, [])
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_video_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    for name, size_wh in (("out.webm", (70_000, 2)), ("out.mp4", (40_000, 2))):
        with pytest.raises(SourceError, match=name):
            write(tmp_path / name, [0.0], size_wh)
    for name in ("out.wmv", "out"):
        with pytest.raises(SourceError, match=r"\.mp4.*\.webm"):
            write(tmp_path / name, [])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder.mp4").mkdir()
    for name, word in (("folder.mp4", "folder"), ("none/out.mp4", "No such file")):
        with pytest.raises(SourceError, match=word):
            write(tmp_path / name, [])

    def refuse(**arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(writing.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(SourceError, match="Permission denied"):
        write(tmp_path / "out.mp4", [])


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from emotion.errors import SourceError
from emotion.video.reading import VideoInfo
from emotion.video.writing import VideoSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
random = np.random.default_rng(0)
try:
    with VideoSink(Path(sys.argv[1]), VideoInfo(10.0, (160, 120))) as sink:
        for index in range(40):
            sink.write(random.integers(0, 256, (120, 160, 3), np.uint8), index / 10)
except SourceError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_full_disk_says_so(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    told = run_alone(FULL_DISK, path)
    assert f"out{suffix}" in told
    assert "File too large" in told
    # what is left plays, or is not there
    assert suffix == ".mp4" or len(read_all(path)[1]) > 0
    assert path.exists() is (suffix != ".mp4")


def test_without_av_one_sentence_tells_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SourceError, match="pip install av"):
        write(tmp_path / "out.mp4", [])
    with pytest.raises(SourceError, match="pip install av"):
        read_all(Path(__file__))
    assert list(tmp_path.iterdir()) == []
