"""The sound of a file, carried into another in time with its pictures."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from emotion.errors import SourceError
from emotion.video.decoding import import_av, open_container, packets_over_damage

# FFmpeg's names of the decoders of what phones, cameras and browsers record; no other is run
SOUND_DECODERS = tuple(
    "aac mp3float mp3 mp2float mp2 opus libopus vorbis ac3 eac3 alac flac amrnb libopencore_amrnb "
    "wmav1 wmav2 adpcm_ms adpcm_ima_wav adpcm_ima_qt pcm_s16le pcm_s16be pcm_s24le pcm_s24be "
    "pcm_s32le pcm_f32le pcm_u8 pcm_alaw pcm_mulaw pcm_dvd pcm_bluray".split()
)
RATE_HZ = 48_000
BITS_A_SECOND = 128_000
LARGEST_STRETCH = 1000  # samples a second to stay in time; larger gaps become silence


class Sound:
    """Gives the packets of a sound in step with the pictures; time `start_s` of it becomes 0."""

    def __init__(self, source, stream, name: str, start_s: float):
        self.problem = None  # what is wrong with the sound, in one sentence
        self._source, self._stream, self._name = source, stream, name
        self._start_s, self._position_s = start_s, 0.0
        self._packets, self._next = iter(()), None

    def send_to(self, container, copied: tuple[str, ...], encoder: str) -> None:
        """Add a stream to a container, encoded again unless its codec is among those `copied`."""
        codec = self._stream.codec_context
        if codec.codec.canonical_name in copied:
            target = container.add_stream_from_template(self._stream)
            self._packets = self._copied(target)
        else:
            layout = "mono" if codec.channels == 1 else "stereo"
            target = container.add_stream(encoder, rate=RATE_HZ, layout=layout)
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


@contextlib.contextmanager
def open_sound(path: Path, start_s: float) -> Iterator[Sound]:
    """Open the sound of a file; raise SourceError where there is none that can be read."""
    with open_container(path, tried=SOUND_DECODERS) as source:
        stream = source.streams.best("audio")
        codec = stream and stream.codec_context
        if not codec or codec.codec.name not in SOUND_DECODERS or not codec.sample_rate:
            found = codec.codec.name if codec else "none"
            raise SourceError(
                f"expected the usual sound of a video in {path.name}; found {found}, so the new "
                "video has no sound"
            )
        yield Sound(source, stream, path.name, start_s)
