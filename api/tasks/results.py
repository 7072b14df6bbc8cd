"""Typed results of reading a file, from which every output format is made."""

from dataclasses import dataclass

from common.failures import Failure
from common.messages import Answer


@dataclass(frozen=True)
class PageResult:
    """A page that was read."""

    number: int
    """In the document, from 1."""
    answer: Answer
    seconds: float
    """From drawing the page to the model's answer."""


@dataclass(frozen=True)
class PageFailure:
    """A page that could not be read."""

    number: int
    failure: Failure


@dataclass(frozen=True)
class FileResult:
    """What was read of a file; at least one page of it was."""

    pages: tuple[PageResult | PageFailure, ...]
    """The selected pages of a document in its order; the one page of an image."""
    is_document: bool
    seconds: float

    @property
    def first_page(self) -> PageResult:
        """The first page that was read."""
        return next(page for page in self.pages if isinstance(page, PageResult))

    @property
    def text(self) -> str:
        """The texts of all pages, joined by form feeds; a failed page's is empty."""
        return "\f".join(
            page.answer.text if isinstance(page, PageResult) else "" for page in self.pages
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """Width, height in pixels of the first page that was read, upright."""
        return self.first_page.answer.image_size
