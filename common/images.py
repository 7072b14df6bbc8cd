"""Turns untrusted bytes into an upright RGB image, for the gateway and the runners."""

import io

from pi_heif import register_heif_opener
from PIL import ExifTags, Image, ImageFile

from common.failures import ErrorCode, Refusal
from common.imaging import partial, png_chunks, tones
from common.imaging.transparency import flatten

# The limit on pixels is ours: `check_size` holds it before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
register_heif_opener(thumbnails=False)

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "HEIF", "AVIF", "JPEG2000")
FORMAT_NAMES = "JPEG, PNG, BMP, TIFF, WebP, GIF, HEIC, AVIF, JPEG 2000"
INCOMPLETE = "The image is broken or lacks its end: what could be decoded of it was read."
SEVERAL_FRAMES = "The image has several frames: the first was read."
_NO_FRAMES = ("MPO", "TIFF")
"""Formats whose further frames are no frames of the picture: a phone's extra images, and pages."""
_JPEG_IN_TIFF = 513, 514
"""The tags with the place and the length of a JPEG in a TIFF (TIFF 6.0, section 22)."""
_BYTES_OF_GREY, _BYTES_OF_COLOURS, _BYTES_AT_MOST = 2, 8, 16
"""Bytes of a pixel that decoding takes, copies included: of plain grey, of plain colours, else."""
_COPYING_FORMATS = ("WEBP", "HEIF", "AVIF", "JPEG2000")
"""Formats whose decoders keep copies of the picture."""
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
_PLAIN_GREY = ("1", "L")


def is_image(data: bytes) -> bool:
    """Whether the bytes begin as an image of one of the formats does."""
    try:
        _open(data).close()
    except Refusal:
        return False
    return True


def check_size(data: bytes, max_pixels: int) -> None:
    """Refuse, by its header alone, an image that must not be decoded.

    Raises `Refusal`: BAD_IMAGE for a file that is not an image of the formats, TOO_LARGE for an
    image of more than `max_pixels`. A broken body is found by `decode` only.
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


def decoding_bytes(data: bytes) -> int:
    """Memory that decoding an image may take, by its header. Raises `Refusal` (BAD_IMAGE)."""
    with _open(data) as image:
        pixels = image.width * image.height
        if image.format in _COPYING_FORMATS or image.has_transparency_data:
            return pixels * _BYTES_AT_MOST
        if image.mode in _PLAIN_GREY:
            return pixels * _BYTES_OF_GREY
        return pixels * (_BYTES_OF_COLOURS if image.mode in ("RGB", "P") else _BYTES_AT_MOST)


def decode(data: bytes) -> Image.Image:
    """The image that `decode_with_warnings` returns, alone."""
    return decode_with_warnings(data)[0]


def decode_with_warnings(
    data: bytes, *, keep_grey: bool = False, may_halve: bool = False
) -> tuple[Image.Image, list[str]]:
    """The image's first frame, upright, as 8-bit RGB, and sentences on what of it was not read.

    keep_grey: an image without colours may stay grey, in a quarter of the memory. may_halve: a JPEG
    2000 in colours may be decoded in half its width and height, in a quarter of the memory.

    Transparency lies on white, or on what lets the ink be seen. What is missing of an image that is
    broken or lacks its end is white.

    Raises `Refusal` (BAD_IMAGE) if nothing can be decoded. Blocks: call it in a thread.
    """
    try:
        return _decode(data, keep_grey, _open_halved if may_halve else _open)
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


def _open(data: bytes) -> ImageFile.ImageFile:
    if not data:
        raise Refusal(ErrorCode.BAD_IMAGE, "The file is empty.")
    if data.startswith(png_chunks.SIGNATURE):
        data = png_chunks.without_texts(data)
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:
        raise Refusal(
            ErrorCode.BAD_IMAGE,
            f"The file is not a readable image or PDF: send {FORMAT_NAMES} or PDF.",
        ) from error


def _open_halved(data: bytes) -> ImageFile.ImageFile:
    image = _open(data)
    if image.format == "JPEG2000" and image.mode not in _PLAIN_GREY:
        image.reduce = 1  # type: ignore[assignment, method-assign]
        try:
            image.load()
        except Exception:  # it may have been stored in its full size only
            return _open(data)
    return image


def _decode(
    data: bytes, keep_grey: bool, open_image: partial.Opener
) -> tuple[Image.Image, list[str]]:
    warnings = []
    with _open(data) as header:
        if header.format not in _NO_FRAMES and getattr(header, "is_animated", False):
            warnings.append(SEVERAL_FRAMES)
        order = tones.colour_depth_order(header)
        is_interlaced = partial.is_interlaced(header)
        jpeg = _jpeg_in_tiff(header, data)
    if jpeg is not None:
        return _decode(jpeg, keep_grey, open_image)
    image, is_whole = partial.load(data, open_image)
    with image:
        page = tones.narrow_colours(image, _open(data), order) if order else image
        if keep_grey and is_whole and page.mode in _PLAIN_GREY and not page.has_transparency_data:
            page = page if page.mode == "L" else page.convert("L")
        else:
            page = _rgb(page, is_bare_jpeg=image.format == "JPEG" and "adobe" not in image.info)
        if not is_whole:
            page = partial.repeat_rows(page) if is_interlaced else page
            page = partial.whiten_missing_rows(page)
            warnings.append(INCOMPLETE)
        return _upright(page, image), warnings


def _jpeg_in_tiff(image: ImageFile.ImageFile, data: bytes) -> bytes | None:
    """The whole JPEG that a TIFF of the old JPEG compression holds.

    libtiff refuses those whose tags do not agree with the JPEG's own header.
    """
    tags = getattr(image, "tag_v2", {})
    place, length = (tags.get(tag) for tag in _JPEG_IN_TIFF)
    if not isinstance(place, int) or not isinstance(length, int):
        return None
    jpeg = data[place : place + length]
    try:
        with _open(jpeg) as inner:
            return jpeg if (inner.format, inner.size) == ("JPEG", image.size) else None
    except Refusal:
        return None


def _upright(page: Image.Image, image: Image.Image) -> Image.Image:
    """The page, turned as the tags of the image say that it was made from."""
    # ImageOps.exif_transpose would fail where it cannot write the other tags again.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a page with broken EXIF is read as it lies
        return page
    undo = _UNDO_ORIENTATION.get(orientation)
    return page if undo is None else page.transpose(undo)


def _rgb(image: Image.Image, is_bare_jpeg: bool) -> Image.Image:
    if tones.is_wide_grey(image):
        image = tones.narrow_grey(image)
    elif image.mode == "CMYK":
        image = tones.cmyk_to_rgb(image, is_bare_jpeg)
    if image.has_transparency_data:
        return flatten(image)
    return image if image.mode == "RGB" else image.convert("RGB")  # which copies RGB, too
