"""Holds a page before and after it is read. Imports no Tesseract."""

import math
from dataclasses import dataclass, field, replace

from common.messages import Box, Line, Rotation


@dataclass(frozen=True)
class UnreadPage:
    """A page to be read."""

    image: bytes
    """The encoded image."""
    language: str | None
    """ISO 639-1 code of the language that is tried first; None for the one that reads best."""


@dataclass(frozen=True)
class ReadPage:
    """The text of one page. Boxes are in pixels of the page once it was turned by `rotation`."""

    size: tuple[int, int]
    """Width, height of the page once it was turned upright."""
    blocks: list[list[Line]]
    """Paragraphs, each of rows; the cells of a row are parted by tabs."""
    language: str
    """ISO 639-1 code of the language that most of it is in."""
    rotation: Rotation = field(default_factory=Rotation)
    warnings: tuple[str, ...] = ()
    """What was wrong with its image, a sentence each."""

    @property
    def lines(self) -> list[Line]:
        return [line for block in self.blocks for line in block]

    @property
    def text(self) -> str:
        return "\n\n".join("\n".join(line.text for line in block) for block in self.blocks)

    def enlarged(self, size: tuple[int, int]) -> "ReadPage":
        """The page as if its image had been read in this size, width and height as it came."""
        width, height = size if self.rotation.degrees % 180 == 0 else size[::-1]
        across, down = width / self.size[0], height / self.size[1]

        def enlarge(box: Box) -> Box:
            left, top, right, bottom = box
            return (
                math.floor(left * across),
                math.floor(top * down),
                min(width, math.ceil(right * across)),
                min(height, math.ceil(bottom * down)),
            )

        def line_of(line: Line) -> Line:
            words = [
                word.model_copy(update={"box": enlarge(word.box)}) for word in line.words or ()
            ]
            return line.model_copy(update={"box": enlarge(line.box), "words": words or None})

        blocks = [[line_of(line) for line in block] for block in self.blocks]
        return replace(self, size=(width, height), blocks=blocks)
