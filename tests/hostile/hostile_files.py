"""Files that once took seconds, gigabytes or the disk of a server, each made in a few lines."""

import struct
import zlib

import image_files as files
import numpy as np
from image_files import GREY, jpeg_with, png, png_chunk

TEXT = zlib.compress(bytes(500_000))
MEGAPIXELS = 4  # the limit that these files are made for


def webp(width: int, height: int) -> bytes:
    """Return a lossless WebP of 34 bytes whose pixels all have one colour."""
    return files.riff(b"VP8L", struct.pack("<BII", 0x2F, width - 1 | (height - 1) << 14, 0x88888))


def many_tiles(side: int) -> bytes:
    data, count = zlib.compress(bytes(256)), (side // 16) ** 2
    places = {324: (4, (8,) * count), 325: (4, (len(data),) * count)}
    return files.tiff(data, {259: 8, 322: 16, 323: 16} | places, (side, side))


def many_gif_extensions(count: int) -> bytes:
    content = files.encoded(GREY, "GIF")
    at = 13 + 3 * 2 ** ((content[10] & 7) + 1)  # behind the palette
    return content[:at] + b"!\xfe\x01a\0" * count + content[at:]


def noisy_png(width: int, height: int) -> bytes:
    """Return a small file whose pixels take much room in any other form: noise that recurs."""
    row = np.random.default_rng(0).integers(0, 256, width, dtype=np.uint8).tobytes()
    places = (7 * y % width for y in range(height))
    return png(8, 0, b"".join(row[x:] + row[:x] for x in places), size_wh=(width, height))


# name -> (what makes it, what the form answers)
HOSTILE = {
    "jpeg of 95,000 exif segments": (
        lambda: jpeg_with(files.segment(0xE1, b"Exif\0\0" + bytes(21)) * 95_000),
        422,
    ),
    "jpeg of two million segments": (lambda: jpeg_with(b"\xff\xe0\0\2" * 2_000_000), 422),
    "jpeg of 500 scans": (lambda: jpeg_with(scans=490), 422),
    "jpeg of 8,000 scans": (lambda: jpeg_with(scans=7_990), 422),
    "10 MB of 0xff": (lambda: b"\xff\xd8" + b"\xff" * 10_000_000, 422),
    "10 MB of 0xff in a jpeg": (lambda: jpeg_with(b"\xff" * 10_000_000), 422),
    "jpeg of five million restarts": (lambda: jpeg_with(last=b"\xff\xd0" * 5_000_000), 303),
    "run-length bmp": (lambda: files.RUN_LENGTH_BMP, 415),
    "webp of 34 bytes": (lambda: webp(2_000, 2_000), 303),
    "webp of 34 bytes, too many pixels": (lambda: webp(8_192, 6_103), 422),
    "avif that lies": (lambda: files.lying_avif(2304), 422),
    "tiff of 15,000 tiles": (lambda: many_tiles(1_984), 303),
    "png of 50,000 chunks": (
        lambda: png(8, 0, GREY.tobytes(), png_chunk(b"abCd", b"") * 50_000),
        303,
    ),
    "png of 10,000 texts of 0.5 MB": (
        lambda: png(8, 0, GREY.tobytes(), png_chunk(b"zTXt", b"a\0\0" + TEXT) * 10_000),
        422,
    ),
    "gif of 300,000 comments": (lambda: many_gif_extensions(300_000), 303),
}
