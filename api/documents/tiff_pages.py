"""Finds the pages of a TIFF, and makes a TIFF of each that shares all its pixels as they are.

A page's tags are a list that says where the next page's list is (TIFF 6.0, section 2). A file whose
header points to the list of a page, and whose list has no next one, is that page alone.
"""

import struct
from dataclasses import dataclass

_NEW_SUBFILE_TYPE = 254
"""The tag that says what an image of the file is."""
_REDUCED_VERSION = 1
"""The bit of that tag that marks a smaller version of another page."""
_SHORT = 3
"""The type of a number of 16 bits."""


@dataclass(frozen=True)
class _Layout:
    """How a kind of TIFF stores the places in it."""

    order: str
    header: int
    """Where the header says where the first list is."""
    place: str
    """The format of a place; as many bytes hold the value of a tag."""
    count: str
    """The format of the number of a list's tags."""

    @property
    def tag_bytes(self) -> int:
        """2 for its number, 2 for its type, then how many values it has, and the value."""
        return 4 + 2 * struct.calcsize(self.place)

    def read(self, data: bytes, form: str, place: int) -> int:
        """Raises `struct.error` for a place that is not in the file."""
        (value,) = struct.unpack_from(self.order + form, data, place)
        return int(value)


_LAYOUTS = {
    b"II*\0": _Layout("<", 4, "I", "H"),
    b"MM\0*": _Layout(">", 4, "I", "H"),
    b"II+\0": _Layout("<", 8, "Q", "Q"),
    b"MM\0+": _Layout(">", 8, "Q", "Q"),
}
"""By the first bytes; the last two are those of a BigTIFF."""


class TiffPages:
    """The pages of a TIFF; none if the file is no TIFF."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._layout = _LAYOUTS.get(data[:4])
        self._lists = list(self._find()) if self._layout else []

    def __len__(self) -> int:
        return len(self._lists)

    def page(self, number: int) -> bytes:
        """Page `number`, from 1, as a TIFF of its own. A list that is broken stays as it is."""
        layout, place = self._layout, self._lists[number - 1]
        assert layout is not None
        page = bytearray(self._data)
        struct.pack_into(layout.order + layout.place, page, layout.header, place)
        try:
            struct.pack_into(layout.order + layout.place, page, self._end(layout, place), 0)
        except struct.error:
            return bytes(page)
        return bytes(page)

    def _find(self) -> list[int]:
        """Where the list of each page is. One that is broken counts as a page, the last."""
        layout = self._layout
        assert layout is not None
        found: list[int] = []
        seen: set[int] = set()
        try:
            place = layout.read(self._data, layout.place, layout.header)
        except struct.error:
            return []
        while place and place not in seen:
            seen.add(place)
            try:
                end = self._end(layout, place)
                following = layout.read(self._data, layout.place, end)
                is_page = not self._subfile_type(layout, place, end) & _REDUCED_VERSION
            except struct.error:
                return [*found, place]
            if is_page or not found:
                found.append(place)
            place = following
        return found

    def _end(self, layout: _Layout, place: int) -> int:
        """Where the list ends, with the place of the next one."""
        count = layout.read(self._data, layout.count, place)
        return place + struct.calcsize(layout.count) + count * layout.tag_bytes

    def _subfile_type(self, layout: _Layout, place: int, end: int) -> int:
        # The tags lie in the order of their numbers, and this one's is the smallest of all.
        first = place + struct.calcsize(layout.count)
        if first == end or layout.read(self._data, "H", first) != _NEW_SUBFILE_TYPE:
            return 0
        form = "H" if layout.read(self._data, "H", first + 2) == _SHORT else "I"
        return layout.read(self._data, form, first + 4 + struct.calcsize(layout.place))
