"""Chooses a document's pages by the ranges that a request names."""

from collections.abc import Sequence

from api.wording import counted
from common.failures import ErrorCode, Refusal

PageRanges = Sequence[tuple[int, int]]
"""First and last page of each range, counted from 1, both included."""


def select_pages(ranges: PageRanges | None, count: int, max_pages: int) -> list[int]:
    """The pages in `ranges`, each once and in the document's order; None selects all pages.

    count: pages of the document.

    Raises `Refusal` (BAD_PARAMETER) for a page that does not exist, or for more pages than
    `max_pages`.
    """
    ranges = ranges or [(1, count)]
    last = max(last for _, last in ranges)
    if last > count:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"There is no page {last}: the document has {counted(count, 'page')}.",
        )
    pages: set[int] = set()
    for first, last in ranges:
        # One page over the limit is enough to refuse: a range may name a billion.
        pages.update(range(first, min(last, first + max_pages) + 1))
    if len(pages) > max_pages:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"{too_many_pages(count, max_pages)}: choose some with 'pages', as in "
            f"pages=1-{max_pages}.",
        )
    return sorted(pages)


def too_many_pages(count: int, max_pages: int) -> str:
    """The sentence about a document over the limit, without its full stop."""
    return f"A request takes at most {counted(max_pages, 'page')}, and the document has {count}"
