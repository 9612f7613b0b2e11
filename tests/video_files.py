"""Tiny videos made by PyAV for the tests: steady, uneven, turned, with sound."""

import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from emotion.video.reading import Frame, Video, VideoLimits, frames, open_video

SIZE_WH = (160, 120)
SOUND_RATE_HZ = 48_000
TIME_BASE = Fraction(1, 90_000)
CODECS = {  # of pictures and of sound
    ".webm": ("libvpx", "libopus"),
    ".avi": ("mjpeg", "pcm_s16le"),
    ".gif": ("gif", ""),
    ".mpg": ("mpeg2video", "mp2"),
}
FAST = {"libx264": {"preset": "ultrafast", "bf": "0"}, "libvpx": {"deadline": "realtime"}}


def picture(index: int = 0, size_wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    """Return an RGB picture, brighter with its number, of which every way to turn it differs."""
    width, height = size_wh
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = image[:, width // 2 :, 2] = 100 + 5 * (index % 30)
    image[: height // 4, :, 1] = 200
    return image


def moving_faces(count: int = 20, size_wh: tuple[int, int] = SIZE_WH) -> list[np.ndarray]:
    """Return pictures through which the face of skimage's astronaut moves from left to right."""
    from skimage import data

    width, height = size_wh
    side = height * 2 // 3
    face = cv2.resize(data.astronaut()[0:220, 115:335], (side, side), interpolation=cv2.INTER_AREA)
    pictures = np.full((count, height, width, 3), 128, np.uint8)
    for image, left in zip(pictures, np.linspace(0, width - side, count).astype(int), strict=True):
        image[height // 6 : height // 6 + side, left : left + side] = face
    return list(pictures)


def noisy_pictures(count: int = 50, size_wh=(64, 48)) -> list[np.ndarray]:
    shape = count, *size_wh[::-1], 3
    return list(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def clicks(seconds: float, at_s: Sequence[float] = ()) -> np.ndarray:
    """Return mono sound of a soft tone, with a loud click of 10 ms at each of the times."""
    times_s = np.arange(round(seconds * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    sound = 0.02 * np.sin(2 * np.pi * 440 * times_s)
    for click_s in at_s:
        loud = (times_s >= click_s) & (times_s < click_s + 0.01)
        sound[loud] = 0.8 * np.sign(np.sin(2 * np.pi * 1000 * times_s[loud]))
    return sound.astype(np.float32)


def write_pictures(
    path: Path,
    pictures: Sequence[np.ndarray],
    fps: float = 10.0,
    times_s: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
    sound_from_s: float = 0.0,
    codec: str | None = None,
    sound_codec: str | None = None,
    pixel_format: str | None = None,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    index_first: bool = False,
) -> Path:
    """Write a video as its suffix says, each picture (RGB) at its time; return the path.

    `matrix` is the display matrix, `aspect` the width of a pixel by its height.
    """
    suffix = path.suffix.lower()
    usual, usual_sound = CODECS.get(suffix, ("libx264", "aac"))
    codec = codec or usual
    height, width = pictures[0].shape[:2]
    options = {"movflags": "faststart"} if index_first and suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream(codec, rate=rate, width=width, height=height)
        context = stream.codec_context
        context.time_base = 1 / rate if suffix in (".avi", ".gif", ".mpg") else TIME_BASE
        stream.pix_fmt = pixel_format or {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
        stream.options = dict(FAST.get(codec, {}))
        if matrix is not None:
            stream.set_display_matrix(matrix)
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if sound is not None:
            name = sound_codec or usual_sound
            speaker = container.add_stream(name, rate=SOUND_RATE_HZ, layout="mono")
        for index, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            time_s = index / fps if times_s is None else times_s[index]
            frame.pts, frame.time_base = round(time_s / context.time_base), context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = SOUND_RATE_HZ, Fraction(1, SOUND_RATE_HZ)
            frame.pts = round(sound_from_s * SOUND_RATE_HZ)
            wanted, size = speaker.codec_context.format, speaker.codec_context.frame_size or 960
            fit = av.AudioResampler(wanted, "mono", SOUND_RATE_HZ, size)
            for piece in (*fit.resample(frame), *fit.resample(None), None):
                container.mux(speaker.encode(piece))
    return path


def steady_video(path: Path, count: int = 20, fps: float = 10.0, size_wh=SIZE_WH) -> Path:
    return write_pictures(path, [picture(index, size_wh) for index in range(count)], fps)


def video_with_sound(path: Path, count: int = 20, click_s: Sequence[float] = (0.5, 1.5)) -> Path:
    pictures = [picture(index) for index in range(count)]
    return write_pictures(path, pictures, sound=clicks(count / 10, click_s))


def read_all(source: Path | str, limits: VideoLimits | None = None) -> tuple[Video, list[Frame]]:
    with open_video(source, limits=limits) as video:
        return video, list(frames(video))


def run_alone(code: str, path: Path) -> str:
    """Run code in another process, with a path as its argument; return what it prints."""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code, path], cwd=root, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()
