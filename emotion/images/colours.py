"""Any picture that Pillow decodes -> eight-bit RGB in sRGB, flattened on white."""

from io import BytesIO

import numpy as np
from PIL import Image, TiffImagePlugin

_MAX_PROFILE_BYTES = 4 * 2**20


def eight_bit(image: Image.Image, content: bytes) -> Image.Image:
    """Scale 16-bit, 32-bit and float pictures to eight bits a channel; leave all others."""
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        bits = 12 if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,) else 16
        grey = _grey_from_words(np.asarray(image), bits, image.info.get("transparency"))
    elif image.mode in ("I", "F"):
        values = np.asarray(image)
        is_unsigned = image.mode == "I" and tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)) == (1,)
        grey = _grey_from_numbers(values.view(np.uint32) if is_unsigned else values)
    else:
        return _with_eight_bit_transparency(image, content)
    white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return Image.fromarray(255 - grey if white_is_zero else grey)


def _grey_from_words(values: np.ndarray, bits: int, transparent: int | None) -> np.ndarray:
    """Keep the high byte of unsigned words, as Pillow does for 16-bit colour.

    Args:
        values: uint16 array of shape (height, width).
        bits: how many of the 16 bits are used, 12 or 16.
        transparent: the one value that is wholly transparent and so becomes white, if any.
    """
    grey = (values >> (bits - 8)).astype(np.uint8)
    if transparent is not None:
        grey[values == transparent] = 255
    return grey


def _grey_from_numbers(values: np.ndarray) -> np.ndarray:
    """Scale 32-bit integers or floats of unknown range to 0-255.

    The first of the customary ranges 0-1 (floats only), 0-255 and 0-65535 that holds every finite
    value is taken as black to white; failing all, the smallest value is black and the largest
    white. Not-a-number becomes black, infinities become black (minus) and white (plus).
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    tops = (255, 65535) if values.dtype.kind in "iu" else (1, 255, 65535)
    fitting = [top for top in tops if low >= 0 and high <= top]
    if fitting or low >= high:
        low, high = 0.0, float(fitting[0] if fitting else 1)
    grey = np.empty(values.shape, np.uint8)
    # A row at a time, so that the float64 copy stays small.
    for row, target in zip(values, grey, strict=True):
        scaled = (row.astype(np.float64) - low) * (255 / (high - low))
        target[:] = np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255))
    return grey


def _with_eight_bit_transparency(image: Image.Image, content: bytes) -> Image.Image:
    """Bring the transparent colour of a PNG to the eight bits of the pixels it is compared with.

    Without the content (an image that Pillow opened elsewhere) the depth is not known.
    """
    transparent = image.info.get("transparency")
    is_plain = image.mode in ("L", "RGB") and transparent is not None
    if image.format != "PNG" or not is_plain or not content:
        return image
    depth = content[24]
    if depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    elif depth < 8:
        image.info["transparency"] = transparent * 255 // (2**depth - 1)
    return image


def flat_rgb(image: Image.Image) -> Image.Image:
    """Convert any eight-bit mode to RGB: colour profile to sRGB, alpha flattened on white."""
    profile = image.info.get("icc_profile")
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        image = image if image.mode in ("RGB", "CMYK") else image.convert("RGB")
        image = _in_srgb(image, profile)
        # `convert` copies also where there is nothing to convert
        return image if image.mode == "RGB" else image.convert("RGB")
    image = _in_srgb(image.convert("RGBA"), profile)
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _in_srgb(image: Image.Image, profile_bytes: bytes | None) -> Image.Image:
    """Convert a picture from its embedded colour profile to sRGB; ignore a profile that is broken.

    Args:
        image: mode RGB, RGBA or CMYK.
        profile_bytes: an ICC profile, or None.
    """
    if not profile_bytes or len(profile_bytes) > _MAX_PROFILE_BYTES:
        return image
    # Most photos carry no profile, so the colour library is loaded when the first one does.
    from PIL import ImageCms

    mode = image.mode
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(profile_bytes))
        if _is_srgb(profile):
            return image
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(
            image, profile, srgb, outputMode=mode.replace("CMYK", "RGB")
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image


def _is_srgb(profile) -> bool:
    """Tell whether a profile calls itself sRGB, in which case converting it changes nothing."""
    return (profile.profile.profile_description or "").strip().startswith("sRGB")
