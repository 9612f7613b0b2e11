"""Files from strangers, streams from a server on this machine, and stand-ins for cameras."""

# ruff: noqa: PT012 - streams end by raising

import contextlib
import http.server
import itertools
import socket
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import pytest
import video_files
from video_files import SIZE_WH, noisy_pictures, picture, read_all, steady_video, write_pictures

from emotion.errors import SourceError
from emotion.video import decoding, reading
from emotion.video.decoding import stream_name
from emotion.video.reading import NewestFrame, VideoInfo, VideoLimits, frames, open_video

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
def test_lists_of_other_files_are_refused(tmp_path, suffix, limits):
    steady_video(tmp_path / "outside.mp4", count=3)
    path = tmp_path / f"upload{suffix}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for content, target in itertools.product(LISTS.values(), TARGETS):
            address = target.format(folder=tmp_path, port=server.getsockname()[1])
            path.write_text(content.format(target=address))
            with pytest.raises(SourceError, match="decoded"):
                read_all(path, limits)
        with pytest.raises(BlockingIOError):  # nobody called
            server.accept()


def test_data_in_another_file_are_not_read(tmp_path):
    # an .mp4 whose index comes last, without its data, which are said to be in another file
    outside, path = steady_video(tmp_path / "outside.mp4", count=3), tmp_path / "upload.mp4"
    content, name = bytearray(outside.read_bytes()), str(outside).encode()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = bytes(end - start)
    # QuickTime's alias: 150 bytes, of which FFmpeg reads the last name, then records of a path
    own = len(outside.name), outside.name.encode()
    alias = struct.pack(">10xB6s33xB63s16xhh16x", 6, b"volume", *own, 0, 0)
    record = struct.pack(">hh", 18, len(name)) + name + bytes(len(name) % 2)
    body = bytes(4) + alias + record + struct.pack(">hh", -1, 0)
    entry = struct.pack(">I4s", 8 + len(body), b"alis") + body
    start = content.index(b"dref") + 12
    grown = len(entry) - (old := struct.unpack(">I", content[start : start + 4])[0])
    content[start : start + old] = entry
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = content.index(box) - 4
        size = struct.unpack(">I", content[place : place + 4])[0]
        content[place : place + 4] = struct.pack(">I", size + grown)
    path.write_bytes(content)
    for limits in (None, VideoLimits()):
        with pytest.raises(SourceError, match="no frame"):
            read_all(path, limits)


def test_name_of_a_file_is_only_a_name(tmp_path, monkeypatch):
    path = steady_video(tmp_path / "a.mp4", count=3)
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.mp4", "subfile,,start,0,end,9,,:a.mp4", "%03d.mp4"):
        path = path.rename(tmp_path / name)
        assert len(read_all(Path(name))[1]) == 3


def test_limits_refuse_what_is_beyond_them_and_let_pass_what_is_within(tmp_path):
    path = steady_video(tmp_path / "film.mp4")
    for limits, message in (
        (VideoLimits(most_pixels=160 * 120 - 1), r"19,199.*160x120"),
        (VideoLimits(most_frames=19), "19 frames"),
        (VideoLimits(longest_s=1.9), r"1\.9 s"),
    ):
        with pytest.raises(SourceError, match=message):
            read_all(path, limits)
    for name, codec, message in (("a.mkv", "ffv1", r"ffv1.*H\.264"), ("a.gif", "gif", "decoded")):
        with pytest.raises(SourceError, match=message):
            read_all(write_pictures(tmp_path / name, [picture()], codec=codec), VideoLimits())
    limits = VideoLimits(most_pixels=160 * 120, most_frames=20, longest_s=2.0)
    for suffix in (".mp4", ".webm", ".mpg"):
        video, found = read_all(video_files.video_with_sound(tmp_path / f"film{suffix}"), limits)
        assert (len(found), video.problem) == (20, None)


def test_limits_hold_where_a_file_promises_nothing(tmp_path):
    path, found = steady_video(tmp_path / "film.webm"), []
    content = path.read_bytes().replace(b"\x44\x89\x88", b"\xec\x89\x88")  # Duration -> Void
    path.write_bytes(content.replace(b"DURATION", b"DURATI\xff\xfe"))
    assert len(read_all(path)[1]) == 20  # text that is no text does no harm
    for limits in (VideoLimits(most_frames=15), VideoLimits(longest_s=1.45)):
        found.clear()
        with pytest.raises(SourceError, match="longer"), open_video(path, limits=limits) as video:
            found.extend(frames(video))
        assert len(found) == 15


def test_a_larger_picture_may_be_followed_for_less_time(tmp_path):
    limits = VideoLimits(longest_s=0.1)  # 3 frames of 1920x1080: a quarter of one of 0.3 s
    longest, path = 0.1 * 30 * 1920 * 1080, tmp_path / "film.mp4"
    width = 960
    height = int(longest / width / 10) // 2 * 2
    for more, is_taken in ((0, True), (2, False)):
        steady_video(path, count=10, fps=100.0, size_wh=(width, height + more))
        if is_taken:
            assert len(read_all(path, limits)[1]) == 10
            continue
        with pytest.raises(SourceError, match=r"0\.10 s .* longer"):
            read_all(path, limits)


def test_pixels_that_grow_in_mid_stream_are_not_unpacked(tmp_path):
    small = steady_video(tmp_path / "small.ts", count=30).read_bytes()
    large = steady_video(tmp_path / "large.ts", count=5, size_wh=(640, 480)).read_bytes()
    (tmp_path / "both.ts").write_bytes(small + large)
    video, found = read_all(tmp_path / "both.ts", VideoLimits(most_pixels=160 * 120))
    assert len(found) == 30
    assert "frame 30 " in video.problem


@pytest.fixture
def server():
    """Serve /film as a file and /live as a stream of five JPEGs; give address and handler."""

    class Handler(http.server.BaseHTTPRequestHandler):
        film, hold = b"", threading.Event()

        def do_GET(self):
            self.send_response(200)
            is_live = self.path.startswith("/live")
            parts = [cv2.imencode(".jpg", picture(i)[..., ::-1])[1].tobytes() for i in range(5)]
            head = b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
            live = b"".join(head % len(part) + part + b"\r\n" for part in parts)
            kinds = {True: "multipart/x-mixed-replace;boundary=x", False: "video/mp4"}
            self.send_header("Content-Type", kinds[is_live])
            if not is_live:
                self.send_header("Content-Length", str(len(self.film)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(live if is_live else self.film)
                self.hold.wait(20 * is_live)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever).start()
        yield f"127.0.0.1:{httpd.server_address[1]}", Handler
        Handler.hold.set()
        httpd.shutdown()


def test_stream_gives_frames_until_it_stops(server):
    address, handler = server
    handler.hold.set()
    url, found = f"http://user:secret@{address}/live?token=secret", []
    stops = pytest.raises(SourceError, match=r"http://127.* stopped")
    with stops as told, open_video(url) as video:
        assert (video.is_live, video.path, video.info.size_wh) == (True, None, SIZE_WH)
        found.extend(frames(video))
    assert 1 <= len(found) <= 5
    assert len(found) + video.dropped <= 5
    assert (np.diff([frame.timestamp_s for frame in found]) > 0).all()
    assert "secret" not in f"{told.value}{video.name}"


def test_streams_that_fall_silent_or_do_not_answer_are_given_up(server, monkeypatch):
    monkeypatch.setattr(decoding, "READ_TIMEOUT_S", 0.3)
    with pytest.raises(SourceError, match="more frames"):
        read_all(f"http://{server[0]}/live")
    monkeypatch.setattr(decoding, "OPEN_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(SourceError, match="no answer") as told:
            read_all(f"http://user:secret@127.0.0.1:{port}/live")
    assert "secret" not in str(told.value)
    # now nobody listens
    with pytest.raises(SourceError, match=r"rtsp://127\S*/live") as told:
        read_all(f"rtsp://user:secret@127.0.0.1:{port}/live")
    assert "secret" not in str(told.value)
    assert told.value.__cause__ is None
    for url in ("file:///etc/passwd", "concat:a|b", "subfile:,,:x", "lavfi://x"):
        with pytest.raises(SourceError, match="stream"):
            read_all(url)


def test_file_on_a_server_is_read_like_a_file(tmp_path, server):
    address, handler = server
    path = write_pictures(tmp_path / "film.mp4", [picture()] * 20, index_first=True)
    handler.film = path.read_bytes()
    video, found = read_all(f"http://{address}/film.mp4")
    assert (video.is_live, len(found)) == (False, 20)
    # the index is at the end, and the server sends no parts
    handler.film = write_pictures(path, noisy_pictures(10, (640, 480))).read_bytes()
    with pytest.raises(SourceError, match="download it"):
        read_all(f"http://{address}/film.mp4")


def test_names_of_streams_hold_no_secrets():
    for url, name in {
        "rtsp://camera.local:554/one": "rtsp://camera.local:554/one",
        "rtsp://user:p@w@camera.local/one": "rtsp://camera.local/one",
        "rtsp://user:p/w@camera.local/one": "a rtsp stream",
        "rtsp://user:p?w@camera.local/one": "a rtsp stream",
        "http://h/live.m3u8?token=pw#pw": "http://h/live.m3u8",
        "http://h?mail=a@b&pw=1": "a http stream",
        "rtmp://h/live/pw": "rtmp://h",
        "http://[::1]:80/a": "http://[::1]:80/a",
    }.items():
        assert stream_name(url) == name


def camera(images, fps=30.0, waits=False):
    """Return a stand-in for cv2.VideoCapture: images are BGR or errors, each waits for `gate`."""
    capture, gate, images = mock.Mock(), threading.Semaphore(1), list(images)

    def read():
        if waits:
            gate.acquire(timeout=10)
        image = images.pop(0) if images else None
        if isinstance(image, Exception):
            raise image
        return image is not None, image

    capture.configure_mock(gate=gate, images=images, return_value=capture)
    capture.read.side_effect = read
    capture.get.side_effect = lambda key: fps if key == cv2.CAP_PROP_FPS else 0.0
    return capture


def test_camera_that_gives_nothing_says_so_and_rates_are_usable():
    for capture in (camera([]), camera([cv2.error("no")])):
        with pytest.raises(SourceError, match="number 3"), open_video(3, capture):
            pass
        capture.release.assert_called_once()
    for fps, expected in ((15.0, 15.0), (-1.0, 30.0), (float("nan"), 30.0), (1e9, 30.0)):
        with open_video(0, camera([picture()], fps=fps)) as video:
            assert video.info.fps == expected


def test_camera_gives_rgb_and_the_time_of_the_clock(monkeypatch):
    capture = camera([picture(i)[..., ::-1] for i in range(3)], waits=True)
    ticks, found = iter([100.0, 100.5, 102.0]), []
    monkeypatch.setattr(reading, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with pytest.raises(SourceError, match=r"camera 0.* after 3"), open_video(0, capture) as video:
        for frame in frames(video):
            found.append(frame)
            capture.gate.release()
    assert [frame.timestamp_s for frame in found] == [0.0, 0.5, 2.0]
    assert all(np.array_equal(frame.image, picture(frame.index)) for frame in found)
    assert (video.is_live, video.dropped, video.name) == (True, 0, "camera 0")
    assert video.info == VideoInfo(30.0, SIZE_WH, is_steady=False)
    capture.set.assert_called_once_with(cv2.CAP_PROP_BUFFERSIZE, 1)
    capture.release.assert_called_once()


def test_slow_reader_gets_the_newest_frame():
    capture = camera([picture(i) for i in range(10)], waits=True)
    with open_video(0, capture) as video:
        looks = frames(video)
        next(looks)
        capture.gate.release(7)
        deadline_s = time.monotonic() + 30
        while len(capture.images) > 2 and time.monotonic() < deadline_s:
            time.sleep(0.005)
        time.sleep(0.05)  # until the thread has put the last one down
        second = next(looks)
        assert np.array_equal(second.image, picture(7)[..., ::-1])
        assert (second.index, video.dropped) == (1, 6)
        capture.gate.release(9)


def test_camera_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(reading, "FRAME_TIMEOUT_S", 0.05)
    capture = camera([picture()] * 2, waits=True)
    with open_video(0, capture) as video:
        with pytest.raises(SourceError, match=r"0\.05 s"):
            list(frames(video))
        capture.gate.release()


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
