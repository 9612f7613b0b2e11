"""Written videos as other programs show them: their colours, and that a browser plays them."""

import functools
import http.server
import itertools
import shutil
import threading

import cv2
import numpy as np
import pytest
from video_files import clicks, picture, write_pictures

from emotion.video.reading import VideoInfo, frames, open_video
from emotion.video.writing import VideoSink

PATCHES = (
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128)),
    *((224, 172, 150), (60, 40, 30), (255, 255, 0), (0, 255, 255), (255, 0, 255), (16, 16, 16)),
)


def patches(size_wh):
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for place, colour in zip(np.array_split(np.arange(size_wh[0]), 12), PATCHES, strict=True):
        image[:, place] = colour
    return image


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
@pytest.mark.parametrize("size_wh", [(480, 48), (960, 730)])
def test_colours_do_not_shift(tmp_path, suffix, size_wh):
    path, image = tmp_path / f"out{suffix}", patches(size_wh)
    with VideoSink(path, VideoInfo(10.0, size_wh)) as sink:
        sink.write(image, 0.0)
    step = size_wh[0] // 12
    with open_video(path) as video:
        first = next(frames(video)).image
    readers = first, cv2.VideoCapture(str(path)).read()[1][..., ::-1]
    for found, (index, colour) in itertools.product(readers, enumerate(PATCHES)):
        middle = found[8:-8, index * step + step // 3 : index * step + 2 * step // 3]
        assert np.abs(middle.mean((0, 1)) - colour).max() <= 3, colour


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
LOOK = """async (name) => {
  const video = document.createElement('video');
  const told = (event) => new Promise((done, failed) => {
    video['on' + event] = done; video.onerror = () => failed(video.error.message);
  });
  video.muted = true; video.src = name; await told('loadeddata');
  video.currentTime = 0.5; await told('seeked');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const pen = canvas.getContext('2d'); pen.drawImage(video, 0, 0);
  const data = Array.from(pen.getImageData(0, 0, canvas.width, canvas.height).data);
  video.play(); await told('ended');
  return [video.duration, canvas.width, canvas.height, video.currentTime, data,
          video.webkitAudioDecodedByteCount];
}"""


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_videos_play_in_a_browser(tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    source, names = tmp_path / "in.mkv", ("out.mp4", "out.webm")
    times_s = [0.0, *(0.3 + i / 20 for i in range(11))]
    pictures = [picture(0, (480, 96))] * 12
    write_pictures(source, pictures, 20.0, times_s, clicks(0.9), sound_from_s=0.1)
    with open_video(source) as video:
        told = video.info
    for name in names:
        with VideoSink(tmp_path / name, told, sound_of=source) as sink:
            for time_s in times_s:
                sink.write(patches((480, 96)), time_s)
    (tmp_path / "index.html").write_text("<title>videos</title>")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
            page = browser.new_page()
            page.set_default_timeout(90_000)
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
            played = [page.evaluate(LOOK, name) for name in names]
            browser.close()
        server.shutdown()
    for duration_s, width, height, end_s, data, sound_bytes in played:
        assert (width, height) == (480, 96)
        assert duration_s == pytest.approx(0.85, abs=0.04)
        assert end_s == pytest.approx(duration_s, abs=0.01)
        assert sound_bytes > 0
        found = np.array(data, np.uint8).reshape(height, width, 4)[..., :3]
        for index, colour in enumerate(PATCHES):
            middle = found[20:-20, index * 40 + 14 : index * 40 + 26].mean((0, 1))
            # without a graphics card Chromium reckons pure blue of BT.709 as 243
            allowed = 13 if max(colour) - min(colour) > 200 else 3
            assert np.abs(middle - colour).max() <= allowed
