"""Leaves out the chunks of a PNG that hold texts and colour profiles.

Nothing here reads them, and Pillow refuses a whole picture for one that is long, or that grows long
when it is decompressed.
"""

import struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_ORIENTATION_KEYWORDS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif", b"Raw profile type APP1")
"""Starts of the texts that may say how the picture is turned."""
_LONGEST_KEPT = 2**18
"""Bytes."""


def without_texts(png: bytes) -> bytes:
    """The PNG without texts and colour profile; texts that may hold its orientation stay."""
    kept = [SIGNATURE]
    place = len(SIGNATURE)
    while place + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        end = place + 12 + length  # with length, kind and checksum
        if not _is_dropped(kind, png[place + 8 : end - 4]):
            kept.append(png[place:end])
        place = end
    kept.append(png[place:])
    return b"".join(kept)


def _is_dropped(kind: bytes, content: bytes) -> bool:
    if kind in _TEXTS:
        return len(content) > _LONGEST_KEPT or not content.startswith(_ORIENTATION_KEYWORDS)
    return kind == b"iCCP"
