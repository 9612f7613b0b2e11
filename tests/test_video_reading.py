"""Files, streams and cameras in: on tiny videos made here, a server on this machine, stand-ins."""

# ruff: noqa: N802, PT012 - stand-ins answer to names of OpenCV; streams end by raising

import contextlib
import http.server
import itertools
import socket
import struct
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_files import (
    SIZE_WH,
    clicks,
    damaged_video,
    noisy_pictures,
    picture,
    steady_video,
    truncated_video,
    uneven_video,
    video_with_sound,
    write_pictures,
)

from emotion.errors import SourceError
from emotion.video import decoding
from emotion.video.decoding import stream_name, upright_rgb
from emotion.video.live import NewestFrame
from emotion.video.reading import VideoInfo, VideoLimits, frames, open_video

ROOT = Path(__file__).resolve().parent.parent
ONE = 1 << 16
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".ts", ".flv", ".gif")


def read_all(path, limits=None):
    with open_video(path, limits=limits) as video:
        return video, list(frames(video))


def difference(image, expected):
    return np.abs(image.astype(int) - expected).mean()


@pytest.mark.parametrize("suffix", SUFFIXES)
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


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_uneven_times_are_real(tmp_path, suffix):
    times_s = (0.0, 0.1, 0.15, 0.5, 1.2, 1.25)
    video, found = read_all(uneven_video(tmp_path / f"film{suffix}", times_s))
    assert [frame.timestamp_s for frame in found] == pytest.approx(times_s, abs=0.0011)
    assert video.info.duration_s == pytest.approx(1.35, abs=0.01)
    assert video.info.is_steady is (suffix in (".mkv", ".webm"))  # those state a rate all the same


def test_times_count_from_the_first_frame(tmp_path):
    path = tmp_path / "late.mkv"
    write_pictures(path, [picture(i) for i in range(5)], times_s=[3 + i / 10 for i in range(5)])
    video, found = read_all(path)
    assert [frame.timestamp_s for frame in found] == pytest.approx([i / 10 for i in range(5)])
    assert video.info.start_s == pytest.approx(3)


def test_frames_without_times_are_counted(tmp_path):
    source = steady_video(tmp_path / "film.mp4", count=8, fps=25.0)
    raw = tmp_path / "film.h264"
    with av.open(str(source)) as container, av.open(str(raw), "w", format="h264") as target:
        stream = target.add_stream_from_template(container.streams.video[0])
        for packet in container.demux():
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    times_s = [frame.timestamp_s for frame in read_all(raw)[1]]
    assert times_s == pytest.approx([i / 25 for i in range(8)])


def test_times_never_run_backwards(tmp_path):
    parts = [steady_video(tmp_path / f"{i}.ts", count=6).read_bytes() for i in range(2)]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    times_s = [frame.timestamp_s for frame in read_all(tmp_path / "both.ts")[1]]
    assert len(times_s) == 12
    assert (np.diff(times_s) > 0).all()


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


TURNS = ((ONE, 0, 0, ONE), (0, ONE, -ONE, 0), (-ONE, 0, 0, -ONE), (0, -ONE, ONE, 0))
MIRRORS = ((-ONE, 0, 0, ONE), (ONE, 0, 0, -ONE), (0, ONE, ONE, 0), (0, -ONE, -ONE, 0))


@pytest.mark.parametrize(
    # Matroska knows turns, no mirroring
    ("suffix", "matrix"),
    [*((".mp4", matrix) for matrix in (*TURNS, *MIRRORS)), *((".mkv", turn) for turn in TURNS)],
)
def test_frames_come_upright(tmp_path, suffix, matrix):
    a, b, c, d = matrix
    columns = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    video, found = read_all(write_pictures(tmp_path / f"film{suffix}", [picture()], matrix=columns))
    expected = turned_as_defined(picture(), np.sign(matrix))
    assert video.info.size_wh == expected.shape[1::-1]
    assert difference(found[0].image, expected) < 3


def turned_as_defined(image, matrix):
    """Move each pixel to x' = ax + cy, y' = bx + dy, as the format's definition says."""
    a, b, c, d = matrix
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    columns, rows = a * x + c * y, b * x + d * y
    columns, rows = columns - columns.min(), rows - rows.min()
    result = np.empty((rows.max() + 1, columns.max() + 1, 3), np.uint8)
    result[rows, columns] = image
    return result


@pytest.mark.parametrize(
    ("aspect", "size_wh"),
    [((4, 3), (213, 120)), ((2, 3), (160, 180)), ((1, 1), (160, 120)), ((99, 1), (160, 120))],
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
        *(("libx264", kind, SIZE_WH) for kind in ("yuv420p10le", "yuv444p", "yuvj420p")),
        *(("ffv1", kind, SIZE_WH) for kind in ("bgr0", "yuv420p16le", "yuva420p", "gray16le")),
        *(("ffv1", "yuv444p", size_wh) for size_wh in ((161, 121), (33, 64), (2, 2))),
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
    for colours, colour_range in itertools.product([*range(18), 99], [0, 1, 2, 9]):
        frame.colorspace, frame.color_range = colours, colour_range
        image = upright_rgb(frame, None, SIZE_WH, reformatter)
        assert difference(image, picture()) < 15, (colours, colour_range)


def test_mirrored_frames_swap_left_and_right(tmp_path):
    with open_video(steady_video(tmp_path / "film.mp4", count=1)) as video:
        frame = next(frames(video, is_mirrored=True))
    assert difference(frame.image, picture()[:, ::-1]) < 3


def test_frame_size_that_changes_is_fitted(tmp_path):
    small = steady_video(tmp_path / "small.ts", count=5).read_bytes()
    large = steady_video(tmp_path / "large.ts", count=5, size_wh=(320, 320)).read_bytes()
    (tmp_path / "both.ts").write_bytes(small + large)
    found = read_all(tmp_path / "both.ts")[1]
    assert len(found) == 10
    assert {frame.image.shape for frame in found} == {(120, 160, 3)}
    assert found[-1].image[:, :15].max() == 0  # the square has black bars at its sides
    assert found[-1].image[:, 30:70, 0].mean() > 80


def test_best_of_several_streams_is_read(tmp_path):
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mjpeg", rate=10) for _ in range(2)]
        for stream, (width, height) in zip(streams, ((64, 48), SIZE_WH), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        streams[1].disposition = av.stream.Disposition.default
        for index, stream in itertools.product(range(5), streams):
            image = picture(index, (stream.width, stream.height))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    video, found = read_all(path)
    assert video.info.size_wh == SIZE_WH
    assert len(found) == 5


def song_with_cover(path):
    with av.open(str(path), "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        speaker = container.add_stream("aac", rate=48_000, layout="mono")
        image = av.VideoFrame.from_ndarray(picture(0, (64, 48)), format="rgb24")
        packets = [*cover.encode(image), *cover.encode(None)]
        sound = av.AudioFrame.from_ndarray(clicks(1.0)[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 48_000, 0, Fraction(1, 48_000)
        container.mux([*packets, *speaker.encode(sound), *speaker.encode(None)])
    return path


def test_cover_of_a_song_is_no_video(tmp_path):
    with pytest.raises(SourceError, match="only sound"):
        read_all(song_with_cover(tmp_path / "song.m4a"))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"no video" * 1000, "decoded"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "decoded"),
        (cv2.imencode(".png", picture())[1].tobytes(), "decoded"),
        (None, "exist"),
    ],
    ids=["empty", "text", "half a photo", "photo", "missing"],
)
def test_unreadable_file_says_so(tmp_path, content, word):
    if content is not None:
        (tmp_path / "film.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=word):
        read_all(tmp_path / "film.mp4")
    with pytest.raises(SourceError, match="folder"):
        read_all(tmp_path)


@pytest.mark.parametrize("cut_bytes", [300, 5000])
def test_unfinished_recording_says_so(tmp_path, cut_bytes):
    path = steady_video(tmp_path / "film.mp4")
    path.write_bytes(path.read_bytes()[:-cut_bytes])
    with pytest.raises(SourceError, match="index"):
        read_all(path)


@pytest.mark.parametrize(
    ("suffix", "share"),
    [(".mp4", 0.3), (".mov", 0.8), (".mkv", 0.3), (".webm", 0.8), (".flv", 0.3)],
)
def test_cut_off_video_gives_the_frames_before_the_cut(tmp_path, suffix, share):
    path = truncated_video(tmp_path / f"film{suffix}", share=share)
    video, found = read_all(path)
    assert 50 * share - 5 < len(found) < 50 * share + 3
    for part in ("5.0 s", f"frame {len(found)}", f"{len(found) / 10:.1f} s"):
        assert part in video.problem


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mpg"])
def test_damage_is_told_and_read_over(tmp_path, suffix):
    video, found = read_all(damaged_video(tmp_path / f"film{suffix}"))
    assert 44 <= len(found) < 50
    assert found[-1].timestamp_s == pytest.approx(4.9, abs=0.3)
    assert "damaged" in video.problem


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_sound_longer_than_the_picture_is_no_damage(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    write_pictures(path, [picture(i) for i in range(10)], sound=clicks(4.0))
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
    write_pictures(path, noisy_pictures(), times_s=times_s, sound=clicks(0.1))
    content = path.read_bytes().replace(b"DURATION", tag)
    path.write_bytes(content[: round(len(content) * share)])
    video, found = read_all(path)
    assert video.info.duration_s == pytest.approx(5.0, abs=0.05)
    assert (len(found) == 50) == (share == 1) == (video.problem is None)


def test_video_is_closed_when_left_early(tmp_path):
    path = steady_video(tmp_path / "film.mp4")
    opened = Path("/proc/self/fd")
    before = len(list(opened.iterdir())) if opened.exists() else 0
    for _ in range(3):
        with open_video(path) as video:
            next(frames(video))
    assert before == (len(list(opened.iterdir())) if opened.exists() else 0)


def test_memory_does_not_grow_with_the_frames(tmp_path):
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from emotion.video.reading import frames, open_video\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with open_video(Path(sys.argv[1])) as video:\n"
        "    for frame in frames(video):\n"
        "        early = peak() if frame.index == 30 else None or locals().get('early')\n"
        "print(frame.index + 1, (peak() - early) // 1024)\n"
    )
    path = steady_video(tmp_path / "film.mp4", count=90, size_wh=(640, 480))
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    count, grown_mb = map(int, done.stdout.split())
    assert count == 90
    assert grown_mb < 30  # the last 60 frames are 55 MB


def test_importing_loads_no_av():
    code = "import sys, emotion.video.reading, emotion.video.writing; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- files from strangers -------------------------------------------------------------------------


@contextlib.contextmanager
def counting_server():
    """Give a port of this machine and a list that grows with each connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        calls, stopping = [], threading.Event()

        def accept():
            while not stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    calls.append(connection)
                    connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], calls
        stopping.set()
        thread.join()


LISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\nduration 2\n",
    "dash": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    ),
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n# {target}\n",
    "sami": "<SAMI><!-- {target} --></SAMI>",
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "rtsp": "RTSPtext\n{target}\n",
}
TARGETS = (
    "outside.mp4",
    "file:{folder}/outside.mp4",
    "http://127.0.0.1:{port}/x.mp4",
    "subfile,,start,0,end,9999,,:{folder}/outside.mp4",
    "concat:{folder}/outside.mp4",
)


@pytest.mark.parametrize("limits", [None, VideoLimits()])
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_other_files_are_refused(tmp_path, kind, suffix, limits):
    steady_video(tmp_path / "outside.mp4", count=3)
    path = tmp_path / f"upload{suffix}"
    with counting_server() as (port, calls):
        for target in TARGETS:
            address = target.format(folder=tmp_path, port=port)
            path.write_text(LISTS[kind].format(target=address))
            with pytest.raises(SourceError, match="decoded"):
                read_all(path, limits)
    assert calls == []


def with_outside_data(path, outside):
    """Change an .mp4 whose index comes last so that its data are said to be in another file."""
    content = bytearray(path.read_bytes())
    name = str(outside).encode()
    # QuickTime's alias: 150 bytes, of which FFmpeg reads the last name, then records of a path
    alias = bytearray(150)
    alias[10] = len(b"volume")
    alias[11:17] = b"volume"
    alias[50] = len(outside.name)
    alias[51 : 51 + len(outside.name)] = outside.name.encode()
    alias[130:134] = struct.pack(">hh", 0, 0)
    record = struct.pack(">hh", 18, len(name)) + name + bytes(len(name) % 2)
    body = bytes(4) + bytes(alias) + record + struct.pack(">hh", -1, 0)
    entry = struct.pack(">I4s", 8 + len(body), b"alis") + body
    start = content.index(b"dref") + 12
    grown = len(entry) - struct.unpack(">I", content[start : start + 4])[0]
    content[start : start + struct.unpack(">I", content[start : start + 4])[0]] = entry
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = content.index(box) - 4
        size = struct.unpack(">I", content[place : place + 4])[0]
        content[place : place + 4] = struct.pack(">I", size + grown)
    path.write_bytes(content)


def test_data_in_another_file_are_not_read(tmp_path):
    outside = steady_video(tmp_path / "outside.mp4", count=3)
    path = tmp_path / "upload.mp4"
    content = bytearray(outside.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    with_outside_data(path, outside)
    for limits in (None, VideoLimits()):
        with pytest.raises(SourceError, match="no frame"):
            read_all(path, limits)


@pytest.mark.parametrize("name", ["concat:a|b.mp4", "subfile,,start,0,end,9,,:a.mp4", "%03d.mp4"])
def test_name_of_a_file_is_only_a_name(tmp_path, name, monkeypatch):
    steady_video(tmp_path / "a.mp4", count=3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read_all(Path(name))[1]) == 3


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (VideoLimits(most_pixels=160 * 120 - 1), r"19,199.*160x120"),
        (VideoLimits(most_frames=19), "19 frames"),
        (VideoLimits(longest_s=1.9), r"1\.9 s"),
        (VideoLimits(allowed_formats=("matroska",)), "decoded"),
        (VideoLimits(allowed_codecs=("vp9",)), r"vp9.*H\.264"),
    ],
)
def test_limits_refuse_what_is_beyond_them(tmp_path, limits, message):
    path = steady_video(tmp_path / "film.mp4")
    with pytest.raises(SourceError, match=message), open_video(path, limits=limits):
        pass


def test_limits_let_pass_what_is_within(tmp_path):
    limits = VideoLimits(most_pixels=160 * 120, most_frames=20, longest_s=2.0)
    for suffix in (".mp4", ".webm", ".avi", ".mpg"):
        video, found = read_all(video_with_sound(tmp_path / f"film{suffix}"), limits)
        assert (len(found), video.problem) == (20, None)


def test_limits_hold_where_a_file_promises_nothing(tmp_path):
    path, found = steady_video(tmp_path / "film.webm"), []
    content = path.read_bytes().replace(b"\x44\x89\x88", b"\xec\x89\x88")  # Duration -> Void
    path.write_bytes(content.replace(b"DURATION", b"SOMEWHAT"))
    for limits in (VideoLimits(most_frames=15), VideoLimits(longest_s=1.45)):
        found.clear()
        with (
            pytest.raises(SourceError, match="longer"),
            open_video(path, limits=limits) as video,
        ):
            found.extend(frames(video))
        assert len(found) == 15


def test_pixels_that_grow_in_mid_stream_are_not_unpacked(tmp_path):
    small = steady_video(tmp_path / "small.ts", count=80).read_bytes()
    large = steady_video(tmp_path / "large.ts", count=5, size_wh=(640, 480)).read_bytes()
    (tmp_path / "both.ts").write_bytes(small + large)
    video, found = read_all(tmp_path / "both.ts", VideoLimits(most_pixels=160 * 120))
    assert len(found) == 80
    assert "frame 80 " in video.problem


def test_too_many_pixels_are_refused_before_any_is_unpacked(tmp_path):
    path = steady_video(tmp_path / "film.ts", count=1, size_wh=(3072, 3072))
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import av\n"
        "from emotion.video.reading import SourceError, VideoLimits, open_video\n"
        "def peak_mb():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) // 1024 for line in lines if 'VmHWM' in line)\n"
        "before = peak_mb()\n"
        "try:\n"
        "    open_video(Path(sys.argv[1]), limits=VideoLimits(most_pixels=9)).__enter__()\n"
        "except SourceError as error:\n"
        "    print(peak_mb() - before, error)\n"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    grown_mb, message = done.stdout.split(maxsplit=1)
    assert "3072x3072" in message
    assert int(grown_mb) < 10  # one such frame takes 14 MB as YUV


def test_text_that_is_no_text_does_no_harm(tmp_path):
    path = steady_video(tmp_path / "film.mkv", count=2)
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"DURATI\xff\xfe"))
    assert len(read_all(path)[1]) == 2


# --- streams --------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /film as a file and /live as a stream of JPEGs that ends after `count`."""

    count, film, hold = 5, b"", threading.Event()

    def do_GET(self):
        self.send_response(200)
        if self.path.startswith("/film"):
            self.send_header("Content-Length", str(len(self.film)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(self.film)
            return
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=x")
        self.end_headers()
        with contextlib.suppress(OSError):
            for index in range(self.count):
                jpeg = cv2.imencode(".jpg", picture(index)[..., ::-1])[1].tobytes()
                head = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            self.hold.wait(20)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """Serve on this machine; give the address and what decides on its answers."""

    class Own(Handler):
        hold = threading.Event()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"127.0.0.1:{httpd.server_address[1]}", Own
        Own.hold.set()
        httpd.shutdown()
        thread.join()


def test_stream_gives_frames_until_it_stops(server):
    address, handler = server
    handler.hold.set()
    url, found = f"http://user:secret@{address}/live?token=secret", []
    with (
        pytest.raises(SourceError, match=r"http://127.* stopped") as told,
        open_video(url) as video,
    ):
        assert (video.is_live, video.path, video.info.size_wh) == (True, None, SIZE_WH)
        found.extend(frames(video))
    assert 1 <= len(found) <= 5
    assert len(found) + video.dropped <= 5
    assert (np.diff([frame.timestamp_s for frame in found]) > 0).all()
    assert "secret" not in f"{told.value}{video.name}"


def test_silent_stream_is_given_up(server, monkeypatch):
    monkeypatch.setattr(decoding, "READ_TIMEOUT_S", 0.3)
    with (
        pytest.raises(SourceError, match="more frames"),
        open_video(f"http://{server[0]}/live") as video,
    ):
        for _ in frames(video):
            pass


def test_stream_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(decoding, "OPEN_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://user:secret@127.0.0.1:{mute.getsockname()[1]}/live"
        with pytest.raises(SourceError, match=r"\(no answer\)") as told, open_video(url):
            pass
    assert "secret" not in str(told.value)


def test_stream_that_is_not_there_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"rtsp://user:secret@127.0.0.1:{port}/live"
    with pytest.raises(SourceError, match=r"rtsp://127\S*/live cannot be opened") as told:
        open_video(url).__enter__()
    assert "secret" not in str(told.value)
    assert told.value.__cause__ is None


def test_file_on_a_server_is_read_like_a_file(tmp_path, server):
    address, handler = server
    path = tmp_path / "film.mp4"
    write_pictures(path, [picture(i) for i in range(20)], options={"movflags": "faststart"})
    handler.film = path.read_bytes()
    with open_video(f"http://{address}/film.mp4") as video:
        assert not video.is_live
        assert len(list(frames(video))) == 20


def test_index_at_the_end_of_a_file_on_a_server_that_sends_no_parts_is_told(tmp_path, server):
    address, handler = server
    path = write_pictures(tmp_path / "film.mp4", noisy_pictures(10, (640, 480)))
    handler.film = path.read_bytes()
    with pytest.raises(SourceError, match="download it"), open_video(f"http://{address}/film.mp4"):
        pass


@pytest.mark.parametrize("url", ["file:///etc/passwd", "concat:a|b", "subfile:,,:x", "lavfi://x"])
def test_other_addresses_are_no_streams(url):
    with pytest.raises(SourceError, match="stream"), open_video(url):
        pass


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("rtsp://camera.local:554/one", "rtsp://camera.local:554/one"),
        ("rtsp://user:pw@camera.local/one", "rtsp://camera.local/one"),
        ("rtsp://user:p@w@camera.local/one", "rtsp://camera.local/one"),
        ("rtsp://user:p/w@camera.local/one", "a rtsp stream"),
        ("rtsp://user:p?w@camera.local/one", "a rtsp stream"),
        ("http://h/live.m3u8?token=pw#pw", "http://h/live.m3u8"),
        ("http://h?mail=a@b&pw=1", "a http stream"),
        ("rtmp://h/live/pw", "rtmp://h"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
    ],
)
def test_names_of_streams_hold_no_secrets(url, name):
    assert stream_name(url) == name


# --- cameras --------------------------------------------------------------------------------------


class FakeCapture:
    """Stands in for cv2.VideoCapture: gives BGR frames, each when it is asked for."""

    def __init__(self, images, is_open=True, fps=30.0):
        self.images, self.is_open, self.fps = list(images), is_open, fps
        self.settings, self.is_released, self.gate = {}, False, None

    def __call__(self, source):
        self.source = source
        return self

    def isOpened(self):
        return self.is_open

    def read(self):
        if self.gate is not None:
            self.gate.acquire(timeout=10)
        return (True, self.images.pop(0)) if self.images else (False, None)

    def get(self, key):
        return self.fps if key == cv2.CAP_PROP_FPS else 0.0

    def set(self, key, value):
        self.settings[key] = value
        return True

    def release(self):
        self.is_released = True


@pytest.mark.parametrize("capture", [FakeCapture([], is_open=False), FakeCapture([])])
def test_camera_that_gives_nothing_says_so(capture):
    with pytest.raises(SourceError, match="number 3"), open_video(3, capture):
        pass
    assert capture.is_released


def test_camera_gives_rgb_and_the_time_of_the_clock():
    capture = FakeCapture([picture(i)[..., ::-1] for i in range(3)])
    capture.gate = threading.Semaphore(1)
    ticks, found = iter([100.0, 100.5, 102.0]), []
    with (
        pytest.raises(SourceError, match=r"camera 0.* after 3"),
        open_video(0, capture, clock=lambda: next(ticks)) as video,
    ):
        for frame in frames(video):
            found.append(frame)
            capture.gate.release()
    assert [frame.timestamp_s for frame in found] == [0.0, 0.5, 2.0]
    assert all(np.array_equal(frame.image, picture(frame.index)) for frame in found)
    assert (video.is_live, video.dropped, video.name) == (True, 0, "camera 0")
    assert video.info == VideoInfo(30.0, SIZE_WH, is_steady=False)
    assert capture.settings[cv2.CAP_PROP_BUFFERSIZE] == 1
    assert capture.is_released


def test_slow_reader_gets_the_newest_frame():
    capture = FakeCapture([picture(i) for i in range(10)])
    capture.gate = threading.Semaphore(1)
    with open_video(0, capture) as video:
        looks = frames(video)
        next(looks)
        capture.gate.release(7)
        wait_until(lambda: len(capture.images) == 2)
        time.sleep(0.05)  # until the thread has put the last one down
        second = next(looks)
        assert difference(second.image, picture(7)[..., ::-1]) == 0
        assert (second.index, video.dropped) == (1, 6)
        capture.gate.release(9)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(15.0, 15.0), (0.0, 30.0), (-1.0, 30.0), (float("nan"), 30.0), (1e9, 30.0)],
)
def test_unusable_rates_of_cameras_are_replaced(fps, expected):
    with open_video(0, FakeCapture([picture()], fps=fps)) as video:
        assert video.info.fps == expected


def wait_until(condition):
    deadline_s = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert condition()


def test_failing_camera_is_told():
    class Broken(FakeCapture):
        def read(self):
            raise cv2.error("no")

    with pytest.raises(SourceError, match="number 0"), open_video(0, Broken([1])):
        pass


def test_camera_that_hangs_is_given_up():
    hanging = threading.Event()

    def grab():
        hanging.wait(10)

    with NewestFrame("camera 0", grab, lambda: None, timeout_s=0.05) as newest:
        with pytest.raises(SourceError, match=r"0\.05 s"):
            newest.take()
        hanging.set()


def test_stream_that_jumps_in_time_goes_on():
    own = iter([(100.0, "a"), (100.02, "b"), (5000.0, "c"), (1.0, "d"), (None, "e"), None])
    gate, found = threading.Semaphore(1), []

    def grab():
        gate.acquire(timeout=10)
        return next(own)

    with NewestFrame("x", grab, lambda: None) as newest, pytest.raises(SourceError):
        while True:
            found.append(newest.take())
            gate.release()
    times_s = [time_s for time_s, _ in found]
    assert [name for _, name in found] == list("abcde")
    assert times_s == sorted(set(times_s))
    assert times_s[:2] == pytest.approx([0.0, 0.02])
    assert times_s[-1] < 60
