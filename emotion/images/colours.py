"""Any picture that Pillow decodes -> eight-bit RGB in sRGB, flattened on white."""

from io import BytesIO

import numpy as np
from PIL import Image, TiffImagePlugin

_MAX_PROFILE_BYTES = 4 * 2**20


def eight_bit(image: Image.Image, content: bytes) -> Image.Image:
    """Return 16-bit, 32-bit and float pictures as eight-bit grey, all others as they are.

    16-bit words keep their high byte, as in Pillow's 16-bit colour. `content` is the picture's
    file, which names the depth of a PNG; empty where it has none.
    """
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        words = np.asarray(image)
        grey = (words >> 8).astype(np.uint8)
        if transparent is not None:
            grey[words == transparent] = 255
    elif image.mode in ("I", "F"):
        grey = _grey_from_numbers(np.asarray(image))
    else:
        # Pillow leaves the transparent colour of a PNG at the depth of the file
        is_plain = image.mode in ("L", "RGB") and transparent is not None
        depth = content[24] if image.format == "PNG" and is_plain and content else 8
        if depth == 16:
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        elif depth < 8:
            image.info["transparency"] = transparent * 255 // (2**depth - 1)
        return image
    is_inverted = getattr(image, "tag_v2", {}).get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return Image.fromarray(255 - grey if is_inverted else grey)


def _grey_from_numbers(values: np.ndarray) -> np.ndarray:
    """Scale integers or floats of unknown range to 0-255.

    The first of the usual ranges 0-1 (floats only), 0-255 and 0-65535 that holds every finite value
    counts as black to white; if none does, the smallest value is black and the largest white.
    Not-a-number and minus infinity become black, infinity white.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    tops = (255, 65535) if values.dtype.kind == "i" else (1, 255, 65535)
    fitting = [top for top in tops if low >= 0 and high <= top]
    if fitting or low >= high:
        low, high = 0.0, float(fitting[0] if fitting else 1)
    grey = np.empty(values.shape, np.uint8)
    # a row at a time, so that the float64 copy stays small
    for row, target in zip(values, grey, strict=True):
        scaled = (row.astype(np.float64) - low) * (255 / (high - low))
        target[:] = np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255))
    return grey


def flat_rgb(image: Image.Image) -> Image.Image:
    """Convert any eight-bit mode to RGB: colour profile to sRGB, alpha flattened on white."""
    profile = image.info.get("icc_profile")
    if image.mode == "La":  # premultiplied alpha
        image = image.convert("LA")
    if not image.has_transparency_data:
        image = _in_srgb(image if image.mode in ("RGB", "CMYK") else image.convert("RGB"), profile)
        # `convert` copies even where there is nothing to convert
        return image if image.mode == "RGB" else image.convert("RGB")
    image = _in_srgb(image.convert("RGBA"), profile)
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _in_srgb(image: Image.Image, profile_bytes: bytes | None) -> Image.Image:
    """Convert an RGB, RGBA or CMYK picture from its colour profile, if that is usable, to sRGB."""
    if not profile_bytes or len(profile_bytes) > _MAX_PROFILE_BYTES:
        return image
    from PIL import ImageCms  # most photos have no profile, and do without this library

    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(profile_bytes))
        if (profile.profile.profile_description or "").strip().startswith("sRGB"):
            return image
        srgb, mode = ImageCms.createProfile("sRGB"), image.mode.replace("CMYK", "RGB")
        return ImageCms.profileToProfile(image, profile, srgb, outputMode=mode)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image
