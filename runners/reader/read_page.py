"""Holds the text of a page that was read. Imports no Tesseract."""

from dataclasses import dataclass, field

from common.messages import Line, Rotation


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

    @property
    def lines(self) -> list[Line]:
        return [line for block in self.blocks for line in block]

    @property
    def text(self) -> str:
        return "\n\n".join("\n".join(line.text for line in block) for block in self.blocks)
