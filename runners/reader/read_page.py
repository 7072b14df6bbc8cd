"""Holds a page before and after it is read. Imports no Tesseract."""

from dataclasses import dataclass, field

from common.messages import Line, Rotation


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
