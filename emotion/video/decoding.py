"""Files and streams by PyAV (FFmpeg), opened so that they can open nothing else."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from emotion.errors import SourceError
from emotion.files import available_cpus

# FFmpeg's names of the formats that are read. None of them is a list of other files: playlists,
# `concat`, `hls`, `dash` and the like would make FFmpeg open whatever a file names.
FILE_FORMATS = (*"mov matroska avi mpeg mpegts mpegvideo asf flv ogg gif apng h264 hevc".split(),)
STREAM_SCHEMES = tuple("rtsp rtsps rtmp rtmps http https udp rtp srt tcp".split())
STREAM_FORMATS = (*FILE_FORMATS, *"hls rtsp sdp rtp mpjpeg mjpeg live_flv".split())
# a stream may refer to other streams, never to a file of this machine
STREAM_PROTOCOLS = (*STREAM_SCHEMES, *"tls crypto httpproxy data rtmpt rtmpe hls".split())

OPEN_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 10.0
MOST_STREAMS = 32
MOST_THREADS = 8
MOST_FAILED_PACKETS = 50  # so many in a row that cannot be read are the end of a file
FALLBACK_FPS = 30.0
HIGHEST_FPS = 480.0  # files that claim more have uneven times, such as a browser's recordings
FLATTEST, TALLEST = Fraction(1, 4), Fraction(4)  # pixels beyond are a file's mistake
# FFmpeg's numbers of the colour matrices that it converts: RGB, BT.709, FCC, BT.601 twice,
# SMPTE 240M, BT.2020; others are unspecified, rare or nonsense
KNOWN_COLOURS = (0, 1, 4, 5, 6, 7, 9)
HIGHEST_RANGE = 2
LARGEST_SD_WH = (1024, 576)  # frames that do not say have BT.601 up to this size, else BT.709


def import_av():
    """Return PyAV: loaded when a video is, and optional, as its wheel holds GPL parts."""
    try:
        import av
    except ImportError as error:
        raise SourceError(
            "expected the package av to read and write videos; it is not installed: pip install av"
        ) from error
    return av


@contextlib.contextmanager
def open_container(
    path: Path, formats: tuple[str, ...] = FILE_FORMATS, tried: tuple[str, ...] = ()
) -> Iterator:
    """Open a file by PyAV so that nothing but this file can be read; `tried` are the decoders that
    may find out what it holds, all where none is named.
    """
    av = import_av()
    options = {"format_whitelist": ",".join(formats), "max_streams": str(MOST_STREAMS)}
    options["protocol_whitelist"] = "file"
    if tried:
        options["codec_whitelist"] = ",".join(tried)
    # "file:" keeps a name such as "concat:a|b" from being more than a name
    address = f"file:{path.resolve()}"
    try:
        container = av.open(address, container_options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(
            f"expected a video; {path.name} cannot be decoded: it is empty, damaged, cut off while "
            "it was recorded or copied, or no video"
        ) from error
    with container:
        yield container


def open_stream(url: str):
    """Return the container of a stream; an error holds neither its user nor its password."""
    av = import_av()
    name, options = stream_name(url), {"protocol_whitelist": ",".join(STREAM_PROTOCOLS)}
    options["format_whitelist"] = ",".join(STREAM_FORMATS)
    if url.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # over UDP a busy network loses parts of frames
    waits_s = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    try:
        return av.open(url, container_options=options, metadata_errors="replace", timeout=waits_s)
    except (av.FFmpegError, ValueError) as error:
        reason = "no answer" if isinstance(error, av.ExitError) else getattr(error, "strerror", "")
        raise SourceError(
            f"expected a stream; {name} cannot be opened ({reason or 'not a URL'}): is its address "
            "right, is it reachable, and are user and password right?"
        ) from None


def stream_name(url: str) -> str:
    """Return a stream's URL without its secrets, RTMP's key among them; raises SourceError."""
    scheme, mark, rest = url.partition("://")
    if scheme.lower() not in STREAM_SCHEMES:
        found = f"{scheme}://" if mark else "something else"
        raise SourceError(f"expected a stream of {', '.join(STREAM_SCHEMES)}; received {found}")
    host, _, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    if "@" in rest.removeprefix(host):
        # a password that holds a slash looks like a path
        return f"a {scheme} stream"
    host = host.rpartition("@")[2]
    is_secret = not path or scheme.lower().startswith("rtmp")
    return f"{scheme}://{host}" if is_secret else f"{scheme}://{host}/{path}"


def usable_fps(*rates: float | Fraction | None) -> float:
    """Return the first number of frames per second that can be true, else a usual one."""
    return next((float(rate) for rate in rates if rate and 0 < rate <= HIGHEST_FPS), FALLBACK_FPS)


class Decoder:
    """Decodes the best pictures of a container over damage; SourceError where there are none."""

    def __init__(self, container, name: str, threading: str = "AUTO"):
        from av.stream import Disposition

        av = import_av()
        covers = Disposition.attached_pic | Disposition.timed_thumbnails
        readable = [s for s in container.streams.video if s.codec_context is not None]
        films = [stream for stream in readable if not stream.disposition & covers]
        if not films:
            found = "no moving pictures of a codec that FFmpeg can decode"
            raise SourceError(f"expected a video; {name} holds {found}")
        best = container.streams.best("video")
        self.container, self.stream = container, best if best in films else films[0]
        self.stream.thread_type = threading
        self.stream.codec_context.thread_count = min(available_cpus(), MOST_THREADS)
        self.fps = usable_fps(self.stream.average_rate, self.stream.guessed_rate)
        self._errors = av.FFmpegError
        self._reformatter = av.video.reformatter.VideoReformatter()  # keeps tables and threads
        self.position = (0, 0.0)  # number and time of the present frame
        self.damages = 0  # how often something could not be read
        self.first_damage = None  # the position before the first of these
        self.packets_reach_s = 0.0  # where the last packet of any kind ends by the file's clock

    def promises(self) -> tuple[int | None, float | None]:
        """Return how many frames a file says it shows (edit lists hide some), and for how long."""
        stream, container, count = self.stream, self.container, self.stream.frames
        tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
        if stream.duration and stream.duration > 0 and not tag:
            seconds = float(stream.duration * stream.time_base)
        else:
            end_s = (container.duration or 0) / 1e6
            if tag:
                end_s = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
            elif "matroska" not in container.format.name:
                end_s += (container.start_time or 0) / 1e6
            # Matroska says when pictures end, counted from 0; they may begin later
            seconds = end_s - float((stream.start_time or 0) * stream.time_base)
        if container.format.name.startswith("mov"):
            shown = [one.timestamp for one in stream.index_entries if not one.is_discard]
            if 0 < len(shown) < count:
                span_s = float((max(shown) - min(shown)) * stream.time_base)
                count, seconds = len(shown), span_s + 1 / self.fps
        return count if 0 < count < 1e9 else None, seconds if 0 < seconds < 1e9 else None

    @functools.cached_property
    def _aspect(self) -> Fraction | None:  # width of a pixel by its height; known after a frame
        ratios = (self.stream.sample_aspect_ratio, self.stream.codec_context.sample_aspect_ratio)
        return next((ratio for ratio in ratios if ratio and ratio > 0), None)

    def pictures(self) -> Iterator:
        for packet in packets_over_damage(self.container, None, self.note_damage):
            if packet.pts is not None and packet.time_base:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self.packets_reach_s = max(self.packets_reach_s, end_s)
            if packet.stream_index == self.stream.index:
                yield from self._decoded(packet)
        # what the decoder holds back
        yield from self._decoded(None)

    def time_s(self, picture) -> float | None:
        """Return when a frame is shown by the clock of the file; None where it does not say."""
        # those that the decoder gives at the end do not know their unit of time
        return None if picture.pts is None else float(picture.pts * self.stream.time_base)

    def size_wh(self, picture) -> tuple[int, int]:
        """Return the size of a frame when its pixels are square and it is turned upright."""
        width, height = _square_size_wh(picture, self._aspect)
        a, b, c, d = _display_matrix(picture)
        return (height, width) if abs(b) + abs(c) > abs(a) + abs(d) else (width, height)

    def rgb(self, picture) -> np.ndarray | None:
        """Return a frame as upright RGB, None where FFmpeg cannot convert it."""
        if picture.is_corrupt:  # FFmpeg had to guess parts of it
            self.note_damage()
        try:
            return upright_rgb(picture, self._aspect, self._reformatter)
        except (self._errors, ValueError):
            self.note_damage()
            return None

    def _decoded(self, packet) -> list:
        try:
            return self.stream.decode(packet)
        except self._errors:
            self.note_damage()
            return []

    def note_damage(self) -> None:
        self.damages += 1
        self.first_damage = self.first_damage or self.position


def packets_over_damage(container, stream, on_damage: Callable[[], None]) -> Iterator:
    """Yield the packets of a stream (None: of all) up to the end, over what cannot be read."""
    av, failed = import_av(), 0
    while failed < MOST_FAILED_PACKETS:
        try:
            for packet in container.demux(*([stream] if stream else [])):
                failed = 0
                # the last ones are empty and stand for the end
                if packet.size:
                    yield packet
            return
        except av.FFmpegError as error:
            failed += 1
            on_damage()
            if isinstance(error, (av.ExitError, av.HTTPError, TimeoutError, ConnectionError)):
                return


def upright_rgb(frame, aspect: Fraction | None, reformatter) -> np.ndarray:
    """Return a decoded frame as (H, W, 3) uint8 RGB, upright, its pixels square."""
    if frame.color_range > HIGHEST_RANGE:
        frame.color_range = 0
    colours = None
    if frame.colorspace not in KNOWN_COLOURS:
        is_sd = frame.width <= LARGEST_SD_WH[0] and frame.height <= LARGEST_SD_WH[1]
        colours = "ITU601" if is_sd else "ITU709"
    size, options = _square_size_wh(frame, aspect), {"src_colorspace": colours, "threads": 1}
    image = reformatter.reformat(frame, *size, "rgb24", **options).to_ndarray()
    a, b, c, d = _display_matrix(frame)
    is_mirrored, is_upside_down = a < 0, d < 0
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, is_mirrored, is_upside_down = cv2.transpose(image), c < 0, b < 0
    if is_mirrored or is_upside_down:
        image = cv2.flip(image, -1 if is_mirrored and is_upside_down else int(is_mirrored))
    return image


def _display_matrix(frame) -> tuple[int, int, int, int]:
    """Return how a decoded frame is to be turned: a, b, c, d of x' = ax + cy and y' = bx + dy."""
    try:
        numbers = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32)
    except (KeyError, ValueError):
        # PyAV refuses to list side data of which one is unknown to it, but tells the angle
        turns = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
        return turns[round(frame.rotation / 90) % 4]
    a, b, _, c, d = (int(number) for number in numbers[:5])
    return a, b, c, d


def _square_size_wh(frame, aspect: Fraction | None) -> tuple[int, int]:
    """Return the size with square pixels: one side grows, none shrinks."""
    if not aspect or not FLATTEST <= aspect <= TALLEST:
        return frame.width, frame.height
    return round(frame.width * max(1, aspect)), round(frame.height / min(1, aspect))


def letterboxed(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Return a picture of a size, as where it changes in mid-stream, with black bars if needed."""
    if image.shape[1::-1] == size_wh:
        return image
    return np.array(ImageOps.pad(Image.fromarray(image), size_wh))
