"""Frames out: a video file that plays in browsers, in time, with the sound of its source."""

import contextlib
import tempfile
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from emotion.errors import SourceError
from emotion.files import available_cpus
from emotion.video.decoding import MOST_THREADS, import_av, open_container, packets_over_damage
from emotion.video.reading import VideoInfo

TICK_S = Fraction(1, 90_000)  # MPEG's unit of time: whole numbers of it for all common rates
UNEVEN_GRID_FPS = 100  # where times lie on a grid, uneven ones are off by less than half of this


class Format(NamedTuple):  # what a file of a suffix holds; names are FFmpeg's
    container: str
    encoder: str
    options: dict[str, str]  # of the encoder for a file, which has time
    live_options: dict[str, str]  # for a camera, which has not
    copied_sounds: tuple[str, ...]  # its players play them as they are
    sound_encoder: str  # for any other sound


# without B-frames: with them the container takes a shorter length from uneven times than is true
H264 = (
    "libx264",
    {"preset": "veryfast", "crf": "21", "bf": "0"},
    {"preset": "ultrafast", "crf": "23", "bf": "0"},
)
VP9 = {"deadline": "realtime", "row-mt": "1", "b": "0"}
VP9_FILE, VP9_LIVE = VP9 | {"cpu-used": "6", "crf": "30"}, VP9 | {"cpu-used": "8", "crf": "34"}
MKV_SOUNDS = ("aac", "mp3", "opus", "vorbis", "flac", "ac3")
FORMATS = {
    ".mp4": Format("mp4", *H264, ("aac", "mp3"), "aac"),
    ".m4v": Format("mp4", *H264, ("aac", "mp3"), "aac"),
    ".mov": Format("mov", *H264, ("aac", "mp3", "alac"), "aac"),
    ".mkv": Format("matroska", *H264, MKV_SOUNDS, "aac"),
    ".webm": Format("webm", "libvpx-vp9", VP9_FILE, VP9_LIVE, ("opus", "vorbis"), "libopus"),
    # sound with a lead-in would push its coarse times by a frame
    ".avi": Format("avi", "mjpeg", {"q": "3"}, {"q": "4"}, ("pcm_s16le",), "pcm_s16le"),
}
VIDEO_OUTPUT_SUFFIXES = tuple(FORMATS)

# FFmpeg's names of the decoders of what phones, cameras and browsers record; no other is run
SOUND_DECODERS = tuple(
    "aac mp3float mp3 mp2float mp2 opus libopus vorbis ac3 eac3 alac flac amrnb libopencore_amrnb "
    "wmav1 wmav2 adpcm_ms adpcm_ima_wav adpcm_ima_qt pcm_s16le pcm_s16be pcm_s24le pcm_s24be "
    "pcm_s32le pcm_f32le pcm_u8 pcm_alaw pcm_mulaw pcm_dvd pcm_bluray".split()
)
RATE_HZ = 48_000
BITS_A_SECOND = 128_000
LARGEST_STRETCH = 1000  # samples a second to stay in time; larger gaps become silence


@contextlib.contextmanager
def kept_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` at the end, interrupted or not; SourceError."""
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

    The suffix says the format, `info` is of the source. Raises SourceError, as on a full disk.
    """

    def __init__(self, path: Path, info: VideoInfo, sound_of: Path | None = None, is_live=False):
        if path.suffix.lower() not in FORMATS:
            raise SourceError(f"expected a video as {', '.join(FORMATS)}; received {path.name}")
        self._format = FORMATS[path.suffix.lower()]
        # motion JPEG has full-range colours of BT.601, and the times of an AVI lie on a grid
        self._is_avi = self._format.container == "avi"
        self._path, self._info, self._is_live = path, info, is_live
        self._sound_of, self._sound = sound_of, None
        # video formats share colours among 2x2 pixels and would cut an odd last row or column off
        self._size_wh = tuple(side + side % 2 for side in info.size_wh)
        self._first_s, self._last_tick = None, -1
        self._has_frames = False
        self.sound_problem = None  # why there is no sound, or none from some time on

    def __enter__(self) -> "VideoSink":
        self._av = import_av()
        container = self._format.container
        options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
        with contextlib.ExitStack() as stack:
            self._part = stack.enter_context(kept_file(self._path))
            stack.callback(self._remove_useless_file)
            with self._clear_errors():
                opened = self._av.open(f"file:{self._part}", "w", format=container, options=options)
                self._container = stack.enter_context(opened)
                self._stream = self._add_pictures()
            self._sounds = stack.enter_context(contextlib.ExitStack())
            stack.callback(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        with self._clear_errors():
            self._stack.close()

    def write(self, image: np.ndarray, timestamp_s: float) -> None:
        """Add a frame, (H, W, 3) uint8 RGB, with its time as in the source."""
        with self._clear_errors():
            if not self._has_frames:
                self._first_s = timestamp_s
                self._add_sound()
                self._container.start_encoding()
            own_s, unit_s = timestamp_s - self._first_s, self._stream.codec_context.time_base
            self._last_tick = max(round(own_s / float(unit_s)), self._last_tick + 1)
            right, bottom = np.subtract(self._size_wh, self._info.size_wh).tolist()
            if right or bottom:
                image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            rgb = self._av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), "rgb24")
            matrix, levels = ("ITU601", "JPEG") if self._is_avi else ("ITU709", "MPEG")
            how = {"format": self._stream.pix_fmt, "dst_colorspace": matrix, "threads": 1}
            frame = self._reformatter.reformat(rgb, dst_color_range=levels, **how)
            frame.pts, frame.time_base = self._last_tick, unit_s
            self._encode(frame)
            self._has_frames = True
            self._write_sound(own_s)

    def _encode(self, frame) -> None:
        # in one piece: Ctrl-C between the two would lose a packet on which all later ones build
        deque(map(self._container.mux, map(self._stream.encode, (frame,))), maxlen=0)

    def _add_pictures(self):
        from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

        form, (width, height) = self._format, self._size_wh
        fps = UNEVEN_GRID_FPS if self._is_avi and not self._info.is_steady else self._info.fps
        rate = Fraction(fps).limit_denominator(1001)
        stream = self._container.add_stream(form.encoder, rate=rate, width=width, height=height)
        stream.options = dict(form.live_options if self._is_live else form.options)
        context = stream.codec_context
        context.thread_count = min(available_cpus(), MOST_THREADS)
        # the colours are tagged, so that no player has to guess; PyAV's own names of matrices are
        # those of swscale, these are AVCOL_SPC_SMPTE170M and AVCOL_SPC_BT709
        if self._is_avi:
            stream.pix_fmt, context.time_base = "yuvj420p", 1 / rate
            context.color_range, context.colorspace = ColorRange.JPEG, 6
            context.color_primaries = ColorPrimaries.SMPTE170M
            context.color_trc = ColorTrc.SMPTE170M
        else:
            stream.pix_fmt, context.time_base = "yuv420p", TICK_S
            context.color_range, context.colorspace = ColorRange.MPEG, 1
            context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        return stream

    def _add_sound(self) -> None:
        """Add the stream of sound, before the first frame is written."""
        if self._sound_of is None or not self._info.has_sound:
            return
        path, start_s = self._sound_of, self._info.start_s + self._first_s
        try:
            source = self._sounds.enter_context(open_container(path, tried=SOUND_DECODERS))
            self._sound = Sound(source, path.name, start_s, self._container, self._format)
        except SourceError as error:
            self.sound_problem = str(error)
        except (self._av.FFmpegError, ValueError) as error:
            expected = f"expected to copy the sound of {path.name}"
            self.sound_problem = f"{expected}; {self._path.suffix} cannot hold it ({error})"

    def _write_sound(self, until_s: float) -> None:
        if self._sound is not None:
            for packet in self._sound.until(until_s):
                self._container.mux(packet)
            self.sound_problem = self._sound.problem

    def _finish(self) -> None:
        if self._has_frames:
            last_s = float(self._last_tick * self._stream.codec_context.time_base)
            self._write_sound(last_s + 1 / self._info.fps)
            self._encode(None)  # what it holds back

    def _remove_useless_file(self) -> None:
        """Remove a file without frames, or one that a full disk left without its index."""
        if self._has_frames:
            with contextlib.suppress(SourceError), open_container(self._part):
                return
        self._part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except (self._av.FFmpegError, ValueError, OverflowError) as error:
            width, height = self._size_wh
            reason = getattr(error, "strerror", None) or error
            raise SourceError(
                f"expected to write a video; {self._path.name} of {width}x{height} pixels at "
                f"{self._info.fps:.5g} frames per second could not be written ({reason})"
            ) from error


class Sound:
    """Copies a sound into a container in step with the pictures; time `start_s` of it becomes 0."""

    def __init__(self, source, name: str, start_s: float, container, form: Format):
        """Add a stream, encoded again unless the form's players play it; raises SourceError."""
        stream = source.streams.best("audio")
        codec = stream and stream.codec_context
        if not codec or codec.codec.name not in SOUND_DECODERS or not codec.sample_rate:
            found = codec.codec.name if codec else "none"
            expected = f"expected the usual sound of a video in {name}"
            raise SourceError(f"{expected}; found {found}, so the new video has no sound")
        self.problem = None  # what is wrong with the sound, in one sentence
        self._source, self._stream, self._name = source, stream, name
        self._start_s, self._position_s, self._next = start_s, 0.0, None
        if codec.codec.canonical_name in form.copied_sounds:
            self._packets = self._copied(container.add_stream_from_template(stream))
        else:
            layout = "mono" if codec.channels == 1 else "stereo"
            target = container.add_stream(form.sound_encoder, rate=RATE_HZ, layout=layout)
            target.bit_rate = BITS_A_SECOND
            self._packets = self._packed(target)

    def until(self, time_s: float) -> Iterator:
        """Yield the packets that begin before a time of the file that is written, in seconds."""
        while True:
            if self._next is None:
                try:
                    self._next = next(self._packets, None)
                except (import_av().FFmpegError, ValueError):
                    # a sound that changes its form in mid-stream ends there
                    self._note_damage()
            if self._next is None or float(self._next.pts * self._next.time_base) >= time_s:
                return
            packet, self._next = self._next, None
            yield packet

    def _copied(self, target) -> Iterator:
        """Yield the packets as they are, without damaged ones, where browsers would stop."""
        for packet in self._timed():
            if self._decoded(packet) is not None:
                packet.stream = target
                yield packet

    def _packed(self, target) -> Iterator:
        """Yield the sound decoded and encoded again, from time 0 on, with silence in its gaps."""
        form, options = target.codec_context, {"async": LARGEST_STRETCH, "first_pts": 0}
        fit = import_av().AudioResampler(form.format, form.layout, RATE_HZ, 1024, options=options)
        for packet in self._timed():
            for piece in self._decoded(packet) or ():
                for fitted in fit.resample(piece):
                    yield from target.encode(fitted)
        for fitted in (*fit.resample(None), None):
            yield from target.encode(fitted)

    def _decoded(self, packet) -> list | None:
        """Return the pieces of sound in a packet, or None where it is damaged."""
        try:
            return self._stream.decode(packet)
        except import_av().FFmpegError:
            self._note_damage()
            return None

    def _timed(self) -> Iterator:
        """Yield the packets from the start on, timed from there, in order."""
        unit_s = self._stream.time_base
        shift, last = round(self._start_s / unit_s), None
        for packet in packets_over_damage(self._source, self._stream, self._note_damage):
            if packet.pts is None:
                continue
            packet.pts -= shift
            packet.dts = packet.pts
            self._position_s = float(packet.pts * unit_s)
            # the packet that ends at the start is kept: from it a decoder warms up
            if packet.pts + (packet.duration or 0) >= 0 and (last is None or packet.pts > last):
                last = packet.pts
                yield packet

    def _note_damage(self) -> None:
        self.problem = self.problem or (
            f"expected to read all sound of {self._name}; it is damaged near "
            f"{max(0.0, self._position_s):.1f} s"
        )
