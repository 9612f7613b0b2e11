"""Files and streams opened by PyAV (FFmpeg), so that they can open nothing else, and decoded over
damage.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from emotion.errors import SourceError
from emotion.files import available_cpus
from emotion.video.upright import upright_rgb

STREAM_SCHEMES = tuple("rtsp rtsps rtmp rtmps http https udp rtp srt tcp".split())

FILE_FORMATS = tuple(
    "mov matroska avi mpeg mpegts mpegvideo asf flv ogg gif apng h264 hevc".split()
)
"""FFmpeg's names of the formats that are read. None of them is a list of other files: playlists,
`concat`, `hls`, `dash` and the like would make FFmpeg open whatever a file names."""

STREAM_FORMATS = (*FILE_FORMATS, *"hls rtsp sdp rtp mpjpeg mjpeg live_flv".split())
STREAM_PROTOCOLS = (*STREAM_SCHEMES, *"tls crypto httpproxy data rtmpt rtmpe hls".split())
"""What a stream may refer to: other streams, never a file of this machine."""

OPEN_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 10.0
NO_CODECS = ("none",)
MOST_STREAMS = 32
MOST_THREADS = 8
MOST_FAILED_PACKETS = 50
"""So many packets in a row that cannot be read are the end of a file."""

MISSING_AV = "expected the package av to read and write videos; it is not installed: pip install av"


def import_av():
    """Return PyAV: loaded when a video is, and optional, because its wheel holds GPL parts.

    Raises:
        SourceError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise SourceError(MISSING_AV) from error
    return av


@contextlib.contextmanager
def open_container(
    path: Path, formats: tuple[str, ...] = FILE_FORMATS, tried: tuple[str, ...] = ()
) -> Iterator:
    """Open a file by PyAV so that nothing but this file can be read.

    Args:
        path: of the file.
        formats: FFmpeg's names of the containers to take.
        tried: FFmpeg's names of the decoders that may be tried to find out what the file holds;
            empty: all.

    Raises:
        SourceError: it cannot be opened.
    """
    av = import_av()
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(formats),
        "max_streams": str(MOST_STREAMS),
    }
    if tried:
        options["codec_whitelist"] = ",".join(tried)
    # "file:" keeps a name such as "concat:a|b" from being more than a name
    address = f"file:{path.resolve()}"
    try:
        container = av.open(address, container_options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(_why_no_video(path)) from error
    with container:
        yield container


def open_stream(url: str):
    """Return the container of a stream.

    Raises:
        SourceError: it cannot be opened; nothing that FFmpeg says is passed on but the reason,
            because the rest holds the URL and with it user and password.
    """
    av = import_av()
    scheme, name = url.partition("://")[0].lower(), stream_name(url)
    if scheme not in STREAM_SCHEMES:
        raise SourceError(f"expected a stream's URL ({', '.join(STREAM_SCHEMES)}); received {name}")
    options = {
        "protocol_whitelist": ",".join(STREAM_PROTOCOLS),
        "format_whitelist": ",".join(STREAM_FORMATS),
    }
    if scheme.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # over UDP a busy network loses parts of frames
    timeouts_s = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    try:
        return av.open(
            url, container_options=options, metadata_errors="replace", timeout=timeouts_s
        )
    except (av.FFmpegError, ValueError) as error:
        reason = "no answer" if isinstance(error, av.ExitError) else getattr(error, "strerror", "")
        raise SourceError(
            f"expected a stream; {name} cannot be opened ({reason or 'not a URL'}): is its address "
            "right, is it reachable, and are user and password right?"
        ) from None


def stream_name(url: str) -> str:
    """Return a stream's URL for messages: no user, password, query, nor the key that ends a path of
    RTMP.
    """
    scheme, mark, rest = url.partition("://")
    host, _, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    if not mark or "@" in rest.removeprefix(host):
        # a password that holds a slash looks like a path
        return f"a {scheme} stream" if mark else "something else"
    host = host.rpartition("@")[2]
    is_secret = not path or scheme.lower().startswith("rtmp")
    return f"{scheme}://{host}" if is_secret else f"{scheme}://{host}/{path}"


def picture_stream(container, name: str):
    """Return the best stream of moving pictures of a container; a cover is none.

    Raises:
        SourceError: there is none that can be decoded.
    """
    films = [stream for stream in container.streams.video if not _is_cover(stream)]
    readable = [stream for stream in films if stream.codec_context is not None]
    best = container.streams.best("video")
    if readable:
        return next((stream for stream in readable if stream == best), readable[0])
    if films:
        raise SourceError(f"expected a video that FFmpeg can decode; {name} is packed otherwise")
    found = "only sound" if container.streams.audio else "no moving pictures"
    raise SourceError(f"expected a video; {name} holds {found}")


def pixel_aspect(stream) -> Fraction | None:
    """Return the width of a pixel by its height, None where a file does not say."""
    for aspect in (stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio):
        if aspect and aspect > 0:
            return aspect
    return None


class Decoder:
    """Decodes the pictures of a container one by one, over damage where FFmpeg can go on.

    Attributes:
        damages: how often something could not be read.
        first_damage: the number and time of the frame before the first of these.
        packets_reach_s: where the last packet of any kind ends, by the clock of the file.
    """

    def __init__(self, container, stream, threading: str = "AUTO"):
        av = import_av()
        self._errors = av.FFmpegError
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._container, self._stream = container, stream
        self._position = (0, 0.0)
        self._last_error = None
        self.damages, self.first_damage = 0, None
        self.packets_reach_s = 0.0
        stream.thread_type = threading
        stream.codec_context.thread_count = min(available_cpus(), MOST_THREADS)

    @functools.cached_property
    def aspect(self) -> Fraction | None:
        """The width of a pixel by its height, None where a file does not say; after a frame."""
        return pixel_aspect(self._stream)

    def pictures(self) -> Iterator:
        """Yield decoded frames."""
        for packet in packets_over_damage(self._container, None, self._note_damage):
            self._note_reach(packet)
            if packet.stream_index == self._stream.index:
                yield from self._decoded(packet)
        # what the decoder holds back
        yield from self._decoded(None)

    def time_s(self, picture) -> float | None:
        """Return when a frame is shown by the clock of the file; None where it does not say."""
        # those that the decoder gives at the end do not know their unit of time
        return None if picture.pts is None else float(picture.pts * self._stream.time_base)

    def rgb(self, picture, size_wh: tuple[int, int]) -> np.ndarray | None:
        """Return a frame as upright RGB of a size, None where FFmpeg cannot convert it."""
        try:
            return upright_rgb(picture, self.aspect, size_wh, self._reformatter)
        except (self._errors, ValueError):
            self._note_damage()
            return None

    def note(self, index: int, timestamp_s: float, picture) -> None:
        """Take notice of a frame: where it is, and whether FFmpeg had to guess parts of it."""
        self._position = (index, timestamp_s)
        if picture.is_corrupt:
            self._note_damage()

    def _decoded(self, packet) -> list:
        try:
            return self._stream.decode(packet)
        except self._errors:
            self._note_damage()
            return []

    def _note_reach(self, packet) -> None:
        if packet.pts is not None and packet.time_base:
            end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self.packets_reach_s = max(self.packets_reach_s, end_s)

    def _note_damage(self) -> None:
        self.damages += 1
        if self.first_damage is None:
            self.first_damage = self._position


def packets_over_damage(container, stream, on_damage: Callable[[], None]) -> Iterator:
    """Yield the packets of a stream (None: of all) up to the end, over what cannot be read.

    Args:
        container: an opened one.
        stream: of it.
        on_damage: called for what cannot be read.
    """
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


def _is_cover(stream) -> bool:
    from av.stream import Disposition

    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    return bool(stream.disposition & covers)


def _why_no_video(path: Path) -> str:
    if path.stat().st_size == 0:
        return f"expected a video; {path.name} is empty"
    if _lacks_index(path):
        return (
            f"expected a whole video; {path.name} lacks its index (moov), which comes last: it was "
            "cut off while it was recorded or copied"
        )
    return f"expected a video; {path.name} cannot be decoded: it is damaged, unfinished or no video"


def _lacks_index(path: Path) -> bool:
    """Return whether a file is an MP4 or MOV without its whole list of where its frames are."""
    start, size, kinds = 0, path.stat().st_size, []
    with path.open("rb") as file:
        while start + 16 <= size and len(kinds) < 1000:
            file.seek(start)
            head = file.read(16)
            is_long = head[:4] == b"\0\0\0\1"
            length = int.from_bytes(head[8:] if is_long else head[:4], "big")
            start += length if length >= 8 else size
            if start <= size:
                kinds.append(head[4:8])
    return kinds[:1] == [b"ftyp"] and b"moov" not in kinds
