"""How many frames of a live camera are answered a second: see live.md."""

import argparse
import http.client
import io
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app import create_app, open_server

SIDES = (320, 480, 640, 960)
"""Longer sides of the frames that the page sends (static/live.js)."""

SHOWN = ("rate", "frame", "answered")
"""Where the page says how it goes."""

CHROMIUM_FLAGS = (
    "--headless --no-sandbox --disable-gpu --use-fake-ui-for-media-stream "
    "--use-fake-device-for-media-stream --use-file-for-fake-video-capture="
)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=30, help="frames a size")
    parser.add_argument("--seconds", type=float, default=20, help="how long the browser runs")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server, port = serve(Path(folder))
        print("| frame | bytes | median ms | CPU ms |\n| --- | --- | --- | --- |")
        for side in SIDES:
            print(time_frames(port, side, chosen.frames))
        print("\n| browser | frames a second | frame | answered in |\n| --- | --- | --- | --- |")
        print(watch(port, Path(folder), chosen.seconds))
        server.close()


def serve(folder: Path):
    """Return a server of the shipped model on a free port, and the port."""
    own = {name: folder / name.lower() for name in ("UPLOADS", "INSTANCE", "FEEDBACK")}
    app = create_app({**own, "PORT": 0, "LIVE_RATE_LIMIT": "1000000 per minute"})
    app.config["WTF_CSRF_ENABLED"] = False
    server = open_server(app, app.extensions["emotion"].settings)
    threading.Thread(target=server.run, daemon=True).start()
    return server, server.effective_port


def scene(width: int) -> Image.Image:
    """Return a 4:3 picture with one face."""
    return Image.fromarray(astronaut()[:384]).resize((width, width * 3 // 4), Image.Resampling.BOX)


def time_frames(port: int, side: int, count: int) -> str:
    """Return a row of the first table: one frame after another, from this process."""
    buffer = io.BytesIO()
    scene(side).save(buffer, "JPEG", quality=75)
    content = buffer.getvalue()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    wall_ms, cpu_ms = [], []
    for _ in range(count):
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        connection.request("POST", "/live/frame", content, {"Content-Type": "image/jpeg"})
        reply = connection.getresponse()
        reply.read()
        if reply.status != 200:
            sys.exit(f"expected status 200; received {reply.status}")
        wall_ms.append((time.perf_counter() - started_s) * 1000)
        cpu_ms.append((time.process_time() - started_cpu_s) * 1000)
    wall, cpu = statistics.median(wall_ms[2:]), statistics.median(cpu_ms[2:])
    return f"| {side}x{side * 3 // 4} | {len(content)} | {wall:.0f} | {cpu:.0f} |"


def watch(port: int, folder: Path, seconds: float) -> str:
    """Return a row of the second table: what the page itself shows."""
    from playwright.sync_api import sync_playwright

    film = write_film(folder / "film.y4m")
    flags = f"{CHROMIUM_FLAGS}{film}".split()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"http://127.0.0.1:{port}/live")
        page.click("text=Start the camera")
        page.wait_for_timeout(seconds * 1000)
        rate, frame, answered = (page.inner_text(f"#{name}") for name in SHOWN)
        browser.close()
    return f"| Chromium, software rendering | {rate.split()[0]} | {frame} | {answered} |"


def write_film(path: Path) -> Path:
    """Write a film of the scene at 640x480 as Chromium's fake camera reads it (YUV4MPEG2)."""
    import cv2

    frame = cv2.cvtColor(np.asarray(scene(640)), cv2.COLOR_RGB2YUV_I420).tobytes()
    header = b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420\n"
    path.write_bytes(header + 2 * (b"FRAME\n" + frame))
    return path


if __name__ == "__main__":
    main()
