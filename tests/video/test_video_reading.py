import itertools
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import video_files
from video_files import SIZE_WH, noisy_pictures, picture, read_all, steady_video, write_pictures

from emotion.errors import SourceError
from emotion.video.decoding import upright_rgb

ONE = 1 << 16


def difference(image, expected):
    return np.abs(image.astype(int) - expected).mean()


@pytest.mark.parametrize(
    "suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".ts", ".flv", ".gif"]
)
def test_every_frame_comes_with_its_time(tmp_path, suffix):
    video, found = read_all(steady_video(tmp_path / f"film{suffix}"))
    assert [frame.index for frame in found] == list(range(20))
    assert [frame.timestamp_s for frame in found] == pytest.approx([i / 10 for i in range(20)])
    for frame in found:
        assert frame.image.dtype == np.uint8
        # a palette of 256 colours and compression change a little; swapped colours 100 or more
        assert difference(frame.image, picture(frame.index)) < 20
    info = video.info
    assert (info.fps, info.size_wh, info.is_steady, info.has_sound) == (10, SIZE_WH, True, False)
    assert info.frame_count in (20, None)
    assert (video.name, video.is_live, video.problem) == (f"film{suffix}", False, None)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_times_are_real(tmp_path, suffix):
    times_s = (0.0, 0.1, 0.15, 0.5, 1.2, 1.25)
    path = write_pictures(tmp_path / f"film{suffix}", [picture()] * 6, times_s=times_s)
    video, found = read_all(path)
    assert [frame.timestamp_s for frame in found] == pytest.approx(times_s, abs=0.0011)
    assert video.info.duration_s == pytest.approx(1.35, abs=0.01)
    assert video.info.is_steady is (suffix == ".mkv")  # it states a rate all the same


def test_frames_without_times_are_counted(tmp_path):
    found = read_all(steady_video(tmp_path / "film.h264", count=8, fps=25.0))[1]
    assert [frame.timestamp_s for frame in found] == pytest.approx([i / 25 for i in range(8)])


def test_parts_of_other_times_and_sizes_are_one_video(tmp_path):
    small = steady_video(tmp_path / "small.ts", count=6).read_bytes()
    large = steady_video(tmp_path / "large.ts", count=6, size_wh=(320, 320)).read_bytes()
    (tmp_path / "both.ts").write_bytes(small + large)
    found = read_all(tmp_path / "both.ts")[1]
    assert len(found) == 12
    assert (np.diff([frame.timestamp_s for frame in found]) > 0).all()
    assert {frame.image.shape for frame in found} == {(120, 160, 3)}
    assert found[-1].image[:, :15].max() == 0  # the square has black bars at its sides
    assert found[-1].image[:, 30:70, 0].mean() > 80


def test_edit_list_hides_frames(tmp_path):
    path = steady_video(tmp_path / "film.mp4", count=20)
    content = bytearray(path.read_bytes())
    # "elst": version, count, segment's length, first time shown: half a second is skipped
    place = content.index(b"elst") + 4
    content[place + 12 : place + 16] = struct.pack(">i", 45_000)
    path.write_bytes(content)
    video, found = read_all(path)
    assert 14 <= len(found) <= 15
    assert found[0].timestamp_s == 0
    assert difference(found[0].image, picture(5)) < 4
    assert video.problem is None


TURNS = ((0, ONE, -ONE, 0), (-ONE, 0, 0, -ONE), (0, -ONE, ONE, 0))
MIRRORS = ((-ONE, 0, 0, ONE), (ONE, 0, 0, -ONE), (0, ONE, ONE, 0), (0, -ONE, -ONE, 0))


# Matroska knows turns, no mirroring
@pytest.mark.parametrize(("suffix", "matrices"), [(".mp4", TURNS + MIRRORS), (".mkv", TURNS)])
def test_frames_come_upright(tmp_path, suffix, matrices):
    for matrix in matrices:
        a, b, c, d = matrix
        path = tmp_path / f"film{suffix}"
        write_pictures(path, [picture()], matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
        video, found = read_all(path)
        # each pixel moves to x' = ax + cy, y' = bx + dy, as the format's definition says
        a, b, c, d = np.sign(matrix)
        y, x = np.mgrid[: SIZE_WH[1], : SIZE_WH[0]]
        columns, rows = a * x + c * y, b * x + d * y
        columns, rows = columns - columns.min(), rows - rows.min()
        expected = np.empty((rows.max() + 1, columns.max() + 1, 3), np.uint8)
        expected[rows, columns] = picture()
        assert video.info.size_wh == expected.shape[1::-1], matrix
        assert difference(found[0].image, expected) < 3, matrix


@pytest.mark.parametrize(
    ("aspect", "size_wh"), [((4, 3), (213, 120)), ((2, 3), (160, 180)), ((99, 1), (160, 120))]
)
def test_pixels_come_square(tmp_path, aspect, size_wh):
    path = write_pictures(tmp_path / "film.mp4", [picture()], aspect=Fraction(*aspect))
    video, found = read_all(path)
    assert video.info.size_wh == found[0].image.shape[1::-1] == size_wh
    expected = cv2.resize(picture(), size_wh, interpolation=cv2.INTER_LINEAR)
    assert difference(found[0].image, expected) < 5


@pytest.mark.parametrize(
    ("codec", "pixel_format", "size_wh"),
    [
        ("libx264", "yuv420p10le", SIZE_WH),
        ("libx264", "yuvj420p", SIZE_WH),
        *(("ffv1", kind, SIZE_WH) for kind in ("bgr0", "yuva420p", "gray16le")),
        *(("ffv1", "yuv444p", size_wh) for size_wh in ((161, 121), (2, 2))),
    ],
)
def test_ways_to_keep_pixels_and_odd_sizes(tmp_path, codec, pixel_format, size_wh):
    path, expected = tmp_path / "film.mkv", picture(0, size_wh)
    write_pictures(path, [expected], codec=codec, pixel_format=pixel_format)
    if pixel_format.startswith("gray"):
        expected = cv2.cvtColor(expected, cv2.COLOR_RGB2GRAY)[..., None]
    video, found = read_all(path)
    assert video.info.size_wh == size_wh
    assert difference(found[0].image, expected) < 3


def test_any_tag_of_colours_is_read():
    reformatter = av.video.reformatter.VideoReformatter()
    frame = av.VideoFrame.from_ndarray(picture(), format="rgb24").reformat(format="yuv420p")
    for colours, colour_range in itertools.product([*range(18), 99], [0, 2, 9]):
        frame.colorspace, frame.color_range = colours, colour_range
        image = upright_rgb(frame, None, reformatter)
        assert difference(image, picture()) < 15, (colours, colour_range)


def test_a_cover_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = *SIZE_WH, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(picture(), format="rgb24")
        container.mux([*cover.encode(image), *cover.encode(None)])
    with pytest.raises(SourceError, match="no moving"):
        read_all(tmp_path / "song.m4a")


def test_unreadable_file_says_so(tmp_path):
    path = tmp_path / "film.mp4"
    unfinished = steady_video(path).read_bytes()[:-300]
    photo = cv2.imencode(".png", picture())[1].tobytes()
    contents = {b"": "empty", b"no video" * 1000: "decoded", photo: "decoded"}
    for content, word in (contents | {unfinished: "cut off"}).items():
        path.write_bytes(content)
        with pytest.raises(SourceError, match=word):
            read_all(path)
    for place, word in ((tmp_path, "folder"), (tmp_path / "none.mp4", "exist")):
        with pytest.raises(SourceError, match=word):
            read_all(place)


@pytest.mark.parametrize(
    ("suffix", "share"), [(".mp4", 0.3), (".mkv", 0.3), (".webm", 0.8), (".flv", 0.3)]
)
def test_cut_off_video_gives_the_frames_before_the_cut(tmp_path, suffix, share):
    path = write_pictures(tmp_path / f"film{suffix}", noisy_pictures(), index_first=True)
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
    video, found = read_all(path)
    assert 50 * share - 5 < len(found) < 50 * share + 3
    for part in ("5.0 s", f"frame {len(found)}", f"{len(found) / 10:.1f} s"):
        assert part in video.problem


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mpg"])
def test_damage_is_told_and_read_over(tmp_path, suffix):
    path = write_pictures(tmp_path / f"film{suffix}", noisy_pictures(), index_first=True)
    content = bytearray(path.read_bytes())
    start, length = len(content) // 2, len(content) // 20
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
    video, found = read_all(path)
    assert 44 <= len(found) < 50
    assert found[-1].timestamp_s == pytest.approx(4.9, abs=0.3)
    assert "damaged" in video.problem


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_sound_longer_than_the_picture_is_no_damage(tmp_path, suffix):
    sound = video_files.clicks(4.0)
    path = write_pictures(tmp_path / f"film{suffix}", [picture()] * 10, sound=sound)
    assert read_all(path)[0].problem is None


@pytest.mark.parametrize(
    ("suffix", "tag", "share"),
    [
        (".mkv", b"DURATION", 1.0),
        (".mkv", b"SOMEWHAT", 0.6),
        (".webm", b"DURATION", 0.6),
        (".flv", b"SOMEWHAT", 1.0),
    ],
)
def test_pictures_that_begin_late_are_whole(tmp_path, suffix, tag, share):
    path = tmp_path / f"film{suffix}"
    times_s = [2.5 + index / 10 for index in range(50)]
    write_pictures(path, noisy_pictures(), times_s=times_s, sound=video_files.clicks(0.1))
    content = path.read_bytes().replace(b"DURATION", tag)
    path.write_bytes(content[: round(len(content) * share)])
    video, found = read_all(path)
    assert video.info.duration_s == pytest.approx(5.0, abs=0.05)
    assert found[0].timestamp_s == 0
    assert (len(found) == 50) == (share == 1) == (video.problem is None)


MEMORY = """
import resource, sys
from pathlib import Path
from emotion.video.reading import frames, open_video
import emotion.video.writing
assert "av" not in sys.modules
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
opened = []
for _ in range(3):
    with open_video(Path(sys.argv[1])) as video:
        next(frames(video))
    opened.append(len(list(Path("/dev/fd").iterdir())))
assert opened[0] == opened[2]
with open_video(Path(sys.argv[1])) as video:
    for frame in frames(video):
        early = peak() if frame.index == 30 else None or locals().get("early")
print(frame.index + 1, (peak() - early) // 1024)
"""


def test_memory_does_not_grow_files_are_closed_and_av_is_loaded_late(tmp_path):
    path = steady_video(tmp_path / "film.mp4", count=90, size_wh=(640, 480))
    count, grown_mb = map(int, video_files.run_alone(MEMORY, path).split())
    assert count == 90
    assert grown_mb < 30  # the last 60 frames are 55 MB
