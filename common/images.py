"""Turns untrusted bytes into an upright RGB image, for the gateway and the runners."""

import io
from typing import cast

from PIL import ExifTags, Image

from common.failures import ErrorCode, Refusal

# The limit on pixels is ours: `check_size` holds it before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_MAX_BLANK_CONTRAST = 16
"""Grey levels of 255 by which compression may make an empty page uneven."""
_UNDO_ORIENTATION: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that undoes each EXIF orientation."""


def check_size(data: bytes, max_pixels: int) -> None:
    """Refuse, by its header alone, an image that must not be decoded.

    Raises `Refusal`: BAD_IMAGE for a file that is not an image of the five formats, TOO_LARGE for
    an image of more than `max_pixels`. A broken body is found by `decode` only.
    """
    width, height = read_size(data)
    if width * height > max_pixels:
        raise Refusal(
            ErrorCode.TOO_LARGE,
            f"The image has {width} x {height} pixels; at most {max_pixels} are read.",
        )


def read_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header. Raises `Refusal` (BAD_IMAGE)."""
    with _open(data) as image:
        return image.size


def decode(data: bytes) -> Image.Image:
    """The image's first frame, upright, as 8-bit RGB, transparency on white.

    Raises `Refusal` (BAD_IMAGE) for a broken or truncated image. Blocks: call it in a thread.
    """
    try:
        with _open(data) as image:
            image.load()
            return _rgb(_upright(image))
    except Refusal:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on broken data
        raise Refusal(
            ErrorCode.BAD_IMAGE, "The image is broken or truncated: it could not be decoded."
        ) from error


def is_blank(image: Image.Image) -> bool:
    """Whether the page shows nothing: it has no more contrast than compression makes."""
    darkest, brightest = image.convert("L").getextrema()
    return int(brightest) - int(darkest) <= _MAX_BLANK_CONTRAST  # type: ignore[arg-type]


def _open(data: bytes) -> Image.Image:
    if not data:
        raise Refusal(ErrorCode.BAD_IMAGE, "The file is empty.")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:
        raise Refusal(
            ErrorCode.BAD_IMAGE,
            "The file is not a readable image or PDF: send JPEG, PNG, BMP, TIFF, WebP or PDF.",
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose would fail where it cannot write the other tags again.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a page with broken EXIF is read as it lies
        return image
    undo = _UNDO_ORIENTATION.get(orientation)
    return image if undo is None else image.transpose(undo)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        # Pillow clips 16 bits to 8 when it converts; scale instead.
        transparent = image.info.get("transparency")
        image = image.convert("I").point(lambda value: value / 257).convert("L")
        if transparent is not None:
            image.info["transparency"] = transparent // 257
    elif image.mode == "F":
        low, high = cast(tuple[float, float], image.getextrema())
        scale = 255 / (high - low) if high > low else 0
        image = image.point(lambda value: (value - low) * scale).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image)
        image = page
    return image.convert("RGB")
