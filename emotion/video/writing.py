"""Frames out: a video file that plays in browsers, in time, with the sound of its source."""

import contextlib
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np

from emotion.errors import SourceError
from emotion.files import available_cpus
from emotion.video.decoding import import_av, letterboxed, open_container
from emotion.video.reading import VideoInfo
from emotion.video.sound import Sound, open_sound

TICK_S = Fraction(1, 90_000)
"""The unit of time of MPEG: whole numbers of it for all common frame rates."""

MOST_THREADS = 8


@dataclass(frozen=True)
class Encoder:
    """How pictures are encoded.

    Attributes:
        name: FFmpeg's name of the encoder.
        options: for a file, which has time.
        live_options: for a camera, which has not.
        pixel_format: FFmpeg's name of how pixels are kept.
        colours: the colour matrix: the one that players assume where they do not read the tag.
        is_full_range: whether black is 0 and white 255, not 16 and 235.
    """

    name: str
    options: Mapping[str, str]
    live_options: Mapping[str, str]
    pixel_format: str = "yuv420p"
    colours: str = "ITU709"
    is_full_range: bool = False


@dataclass(frozen=True)
class Container:
    """What a file of a suffix holds.

    Attributes:
        format: FFmpeg's name of the container.
        encoders: for pictures, the first that this FFmpeg has.
        copied_sounds: FFmpeg's names of sound that it takes, and that its players play, as it is.
        sound_encoder: for any other sound.
        options: of the container.
        has_free_times: whether a frame may have any time; else times lie on a grid.
    """

    format: str
    encoders: tuple[Encoder, ...]
    copied_sounds: tuple[str, ...]
    sound_encoder: str
    options: Mapping[str, str] = field(default_factory=dict)
    has_free_times: bool = True


# without B-frames: with them the container takes a shorter length from uneven times than is true
X264 = Encoder(
    "libx264",
    {"preset": "veryfast", "crf": "21", "bf": "0"},
    {"preset": "ultrafast", "crf": "23", "bf": "0"},
)
OPENH264 = Encoder("libopenh264", {"b": "6M"}, {"b": "6M"})
VP9 = Encoder(
    "libvpx-vp9",
    {"deadline": "realtime", "cpu-used": "6", "row-mt": "1", "crf": "30", "b": "0"},
    {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "34", "b": "0"},
)
VP8 = Encoder(
    "libvpx",
    {"deadline": "realtime", "cpu-used": "6", "crf": "16", "b": "6M"},
    {"deadline": "realtime", "cpu-used": "10", "crf": "20", "b": "6M"},
    colours="ITU601",
)
MJPEG = Encoder("mjpeg", {"q": "3"}, {"q": "4"}, "yuvj420p", "ITU601", is_full_range=True)

MP4 = Container("mp4", (X264, OPENH264), ("aac", "mp3"), "aac", {"movflags": "+faststart"})
CONTAINERS = MappingProxyType(
    {
        ".mp4": MP4,
        ".m4v": MP4,
        ".mov": Container("mov", MP4.encoders, ("aac", "mp3", "alac"), "aac", MP4.options),
        ".mkv": Container(
            "matroska", MP4.encoders, ("aac", "mp3", "opus", "vorbis", "flac", "ac3"), "aac"
        ),
        ".webm": Container("webm", (VP9, VP8), ("opus", "vorbis"), "libopus"),
        # sound with a lead-in would push its coarse times by a frame
        ".avi": Container("avi", (MJPEG,), ("pcm_s16le",), "pcm_s16le", {}, False),
    }
)
"""Suffix of a video that can be written -> what it holds."""

VIDEO_OUTPUT_SUFFIXES = tuple(CONTAINERS)

UNEVEN_GRID_FPS = 100
"""Where times lie on a grid, uneven ones are off by less than half of this."""


@contextlib.contextmanager
def kept_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; at the end it becomes `path`, interrupted or not.

    Raises:
        SourceError: nothing can be written there.
    """
    if path.is_dir():
        raise SourceError(f"expected a file to write; {path} is a folder")
    try:
        folder = tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent)
    except OSError as error:
        raise SourceError(
            f"expected a folder that can be written to; {path.parent} cannot ({error.strerror})"
        ) from error
    with folder as name:
        part = Path(name) / f"part{path.suffix}"
        try:
            yield part
        finally:
            if part.exists() and part.stat().st_size:
                part.replace(path)


class VideoSink:
    """Writes frames to a video file, which appears at the end and is kept when interrupted.

    with VideoSink(Path("out.mp4"), video.info, sound_of=video.path) as sink:
        sink.write(frame.image, frame.timestamp_s)

    Attributes:
        sound_problem: why there is no sound, or none from some time on, where there should be.
    """

    def __init__(
        self, path: Path, info: VideoInfo, sound_of: Path | None = None, is_live: bool = False
    ):
        """Prepare to write a file in the format of its suffix.

        Args:
            path: the file.
            info: of the source: the size of the frames, their rate, and when they start.
            sound_of: the file whose sound to add.
            is_live: frames come as they happen, so encoding must be quick.

        Raises:
            SourceError: no video of this suffix can be written.
        """
        if path.suffix.lower() not in CONTAINERS:
            raise SourceError(
                f"expected a video file ending in {', '.join(CONTAINERS)}; received {path.name}"
            )
        self._kind = CONTAINERS[path.suffix.lower()]
        self._path, self._info, self._is_live = path, info, is_live
        self._sound_of = sound_of
        self._sound: Sound | None = None
        # video formats share colours among 2x2 pixels and would cut an odd last row or column off
        self._size_wh = tuple(side + side % 2 for side in info.size_wh)
        self._first_s, self._last_tick, self._written = None, -1, 0
        self._has_failed = False
        self.sound_problem = None

    def __enter__(self) -> "VideoSink":
        self._av = import_av()
        kind, options = self._kind, dict(self._kind.options)
        with contextlib.ExitStack() as stack:
            self._part = stack.enter_context(kept_file(self._path))
            stack.push(self._remove_useless_file)
            with self._clear_errors():
                self._container = stack.enter_context(
                    self._av.open(f"file:{self._part}", "w", format=kind.format, options=options)
                )
                self._stream = self._add_pictures()
            self._sounds = stack.enter_context(contextlib.ExitStack())
            stack.callback(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        with self._clear_errors():
            self._stack.close()

    def write(self, image: np.ndarray, timestamp_s: float | None = None) -> None:
        """Add a frame.

        Args:
            image: (H, W, 3) uint8 RGB; one of another size than `info` says is fitted in.
            timestamp_s: when it is shown, counted as in the source; None: `info.fps` a second.

        Raises:
            SourceError: it cannot be written, as when the disk is full.
        """
        if timestamp_s is None:
            timestamp_s = self._written / self._info.fps
        with self._clear_errors():
            if not self._written:
                self._first_s = timestamp_s
                self._add_sound()
                self._container.start_encoding()
            unit_s = float(self._stream.codec_context.time_base)
            tick = round((timestamp_s - self._first_s) / unit_s)
            self._last_tick = max(tick, self._last_tick + 1)
            self._encode(self._frame(image, self._last_tick))
            self._written += 1
            self._write_sound(timestamp_s - self._first_s)

    def _encode(self, frame) -> None:
        """Encode a frame (None: what is held back) and write what comes out of it."""
        # in one piece: Ctrl-C between the two would lose a packet on which all later ones build
        deque(map(self._container.mux, map(self._stream.encode, (frame,))), maxlen=0)

    def _add_pictures(self):
        """Add the stream of pictures, packed by the first encoder there is."""
        from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

        kind, known = self._kind, self._av.codecs_available
        encoder = next((one for one in kind.encoders if one.name in known), None)
        if encoder is None:
            raise SourceError(
                f"expected an FFmpeg with {' or '.join(one.name for one in kind.encoders)} to "
                f"write {self._path.name}; this one has none: pip install av brings one"
            )
        is_even = kind.has_free_times or self._info.is_steady
        fps = self._info.fps if is_even else UNEVEN_GRID_FPS
        rate, (width, height) = Fraction(fps).limit_denominator(1001), self._size_wh
        stream = self._container.add_stream(encoder.name, rate=rate, width=width, height=height)
        stream.pix_fmt = encoder.pixel_format
        stream.options = dict(encoder.live_options if self._is_live else encoder.options)
        context = stream.codec_context
        context.time_base = TICK_S if kind.has_free_times else 1 / rate
        context.thread_count = min(available_cpus(), MOST_THREADS)
        # the colours are tagged, so that no player has to guess
        context.color_range = ColorRange.JPEG if encoder.is_full_range else ColorRange.MPEG
        if encoder.colours == "ITU709":
            context.colorspace = 1  # AVCOL_SPC_BT709; PyAV's own names are those of swscale
            context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        else:
            context.colorspace = 6  # AVCOL_SPC_SMPTE170M
            context.color_primaries = ColorPrimaries.SMPTE170M
            context.color_trc = ColorTrc.SMPTE170M
        self._encoder = encoder
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        return stream

    def _frame(self, image: np.ndarray, tick: int):
        """Return a frame in the size, colours and time of the file."""
        if image.shape[1::-1] != self._info.size_wh:
            image = letterboxed(image, self._info.size_wh)
        right, bottom = np.subtract(self._size_wh, self._info.size_wh).tolist()
        if right or bottom:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        rgb = self._av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), "rgb24")
        frame = self._reformatter.reformat(
            rgb,
            format=self._encoder.pixel_format,
            dst_colorspace=self._encoder.colours,
            dst_color_range="JPEG" if self._encoder.is_full_range else "MPEG",
            threads=1,
        )
        frame.pts, frame.time_base = tick, self._stream.codec_context.time_base
        return frame

    def _add_sound(self) -> None:
        """Add the stream of sound, before the first frame is written."""
        if self._sound_of is None or not self._info.has_sound:
            return
        start_s = self._info.start_s + self._first_s
        try:
            sound = self._sounds.enter_context(open_sound(self._sound_of, start_s))
            sound.send_to(self._container, self._kind.copied_sounds, self._kind.sound_encoder)
            self._sound = sound
        except SourceError as error:
            self.sound_problem = str(error)
        except (self._av.FFmpegError, ValueError) as error:
            self.sound_problem = (
                f"expected to copy the sound of {self._sound_of.name}; "
                f"{self._path.suffix} cannot hold it ({error})"
            )

    def _write_sound(self, until_s: float) -> None:
        """Write the sound that belongs before a time of the file, in seconds."""
        if self._sound is not None:
            for packet in self._sound.until(until_s):
                self._container.mux(packet)
            self.sound_problem = self._sound.problem

    def _finish(self) -> None:
        """Write what encoders hold back."""
        if self._written:
            last_s = float(self._last_tick * self._stream.codec_context.time_base)
            self._write_sound(last_s + 1 / self._info.fps)
            self._encode(None)

    def _remove_useless_file(self, kind, error: BaseException | None, traceback) -> None:
        """Remove a file without frames, or one that a full disk left without its index."""
        is_useless = not self._written
        if not is_useless and (self._has_failed or isinstance(error, self._av.FFmpegError)):
            try:
                with open_container(self._part):
                    pass
            except SourceError:
                is_useless = True
        if is_useless:
            self._part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Turn what FFmpeg raises into a SourceError."""
        try:
            yield
        except (self._av.FFmpegError, ValueError, OverflowError) as error:
            self._has_failed = True
            width, height = self._size_wh
            reason = getattr(error, "strerror", None) or error
            raise SourceError(
                f"expected to write a video; {self._path.name} of {width}x{height} pixels at "
                f"{self._info.fps:.5g} frames per second could not be written ({reason})"
            ) from error
