"""How large the pictures are that an AVIF file codes, whatever its boxes say."""

import re
from collections.abc import Iterator
from itertools import count

from emotion.errors import DamagedImageError

BROKEN = "expected a whole AVIF; received one with broken parts or without a picture"


class _Bits:
    """Reads numbers from their highest bit on; `left` is how many more all readers may read."""

    def __init__(self, data: bytes | memoryview, left: Iterator[int]):
        self.data, self.left, self.at = data, left, 0

    def __call__(self, bits: int) -> int:
        start, self.at = self.at, self.at + bits
        if self.at > 8 * len(self.data) or next(self.left, None) is None:
            raise DamagedImageError(BROKEN)
        end = -(-self.at // 8)
        number = int.from_bytes(self.data[start // 8 : end], "big")
        return number >> (8 * end - self.at) & ((1 << bits) - 1)


def coded_sizes(content: bytes, boxes: bytes) -> Iterator[tuple[int, int]]:
    """Yield the (width, height) of each sequence header, for which the decoder makes room.

    `boxes` are those that say where the pictures lie in `content`. AV1 data is a row of OBUs (AV1
    specification, 5.3). Raises DamagedImageError where a header may be hidden.
    """
    # photos take some hundred, grids of tiles some thousand; a hostile file could ask for millions
    left, found = iter(range(100_000)), False
    for data, is_one_of_several in _coded(content, boxes, left):
        bits = _Bits(data, left)
        # other items, such as Exif, do not begin as an OBU that tells its size does
        while bits.at < 8 * len(data) and (head := bits(8)) & 0x83 == 2:
            bits(8 if head & 4 else 0)
            size, shift, goes_on = 0, 0, True
            while goes_on and shift < 56:
                goes_on, part = bits(1), bits(7)
                size, shift = size | part << shift, shift + 7
            end = bits.at + 8 * size
            if head >> 3 == 1:
                found = True
                yield _size(bits)
            bits.at = end
        if is_one_of_several and bits.at != 8 * len(data):  # a header may lie in two of them
            raise DamagedImageError(BROKEN)
    if not found:
        raise DamagedImageError(BROKEN)


def _coded(content: bytes, boxes: bytes, left: Iterator[int]) -> Iterator[tuple[memoryview, bool]]:
    """Yield each piece of each item, and if there are several of it, and the first picture of each
    track (ISO/IEC 14496-12). Views, as pieces may overlap, so that little becomes much.
    """
    bits, whole, sizes = _Bits(boxes, left), memoryview(content), [0]
    for box in re.finditer(b"stsz", boxes):
        bits.at = 8 * (box.end() + 4)
        same, _, first = bits(32), bits(32), bits(32)
        sizes.append(same or first)
    for box in re.finditer(b"stco|co64", boxes):
        bits.at = 8 * (box.end() + 8)
        start = bits(64 if box[0] == b"co64" else 32)
        yield whole[start : start + max(sizes)], False
    inside = memoryview(boxes)[boxes.find(b"idat") + 4 :]
    for box in re.finditer(b"iloc", boxes):
        bits.at = 8 * box.end()
        version, _, offset, length, base, index = map(bits, (8, 24, 4, 4, 4, 4))
        for _ in range(bits(32 if version == 2 else 16)):
            bits(32 if version == 2 else 16)
            source = inside if version and bits(16) & 15 == 1 else whole
            bits(16)
            start, pieces = bits(8 * base), bits(16)
            for _ in range(pieces):
                bits(8 * index if version else 0)
                first, size = start + bits(8 * offset), bits(8 * length)
                yield source[first : first + (size or len(source))], pieces > 1


def _size(bits: _Bits) -> tuple[int, int]:
    """Return (width, height) of the largest frame of a sequence header (5.5 there)."""
    bits(4)
    if bits(1):  # the short form, of still pictures
        bits(5)
    else:
        if bits(1):  # times
            bits(64)
            if bits(1):
                bits(next(zeros for zeros in count() if bits(1)))
            if bits(1):  # a model of the decoder, for broadcasts
                raise DamagedImageError("expected an AVIF of a photo; received one of a broadcast")
        has_delay = bits(1)
        for _ in range(bits(5) + 1):
            bits(12)
            bits(1 if bits(5) > 7 else 0)
            bits(4 if has_delay and bits(1) else 0)
    width_bits, height_bits = bits(4) + 1, bits(4) + 1
    return bits(width_bits) + 1, bits(height_bits) + 1
