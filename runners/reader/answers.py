"""Makes the answer to a request from the pages that were read."""

import re
from collections.abc import Sequence

import langcodes

from common.messages import Answer, Block, Line, Request, Usage
from runners.reader.line_search import search_lines
from runners.reader.read_page import ReadPage
from runners.reader.tessdata import LANGUAGES

_TOKEN = re.compile(r"\w+|[^\w\s]")
"""A word or a punctuation mark: the reader has no vocabulary of tokens."""


def make_answer(request: Request, pages: Sequence[ReadPage]) -> Answer:
    """The text and lines of the page, or what all pages say to the question.

    pages: those of the request's images, in their order; one for the task `ocr`.
    """
    page = pages[0]
    warning = None
    if request.language not in (None, *LANGUAGES):
        name = langcodes.Language.get(request.language).display_name()
        warning = f"There is no trained data for {name}: read as English and Russian."
    if request.task == "ocr":
        layout = request.options.mode == "layout"
        return Answer(
            text=page.text,
            image_size=page.size,
            finish_reason="stop",
            lines=page.lines,
            blocks=[_block(lines) for lines in page.blocks] if layout else None,
            rotation=page.rotation,
            warning=warning,
        )
    found = search_lines(request.question, pages)
    whole = found.text
    if request.stop:
        whole = re.split("|".join(map(re.escape, request.stop)), whole)[0]
    text = _first_tokens(whole, request.max_tokens)
    return Answer(
        text=text,
        image_size=page.size,
        finish_reason="stop" if text == whole else "length",
        usage=Usage(
            prompt_tokens=_count(request.question), visual_tokens=0, completion_tokens=_count(text)
        ),
        lines=found.lines,
        rotation=page.rotation,
        prompt_used=True,
        warning=warning,
    )


def _block(lines: list[Line]) -> Block:
    lefts, tops, rights, bottoms = zip(*(line.box for line in lines), strict=True)
    return Block(
        category="Text",
        box=(min(lefts), min(tops), max(rights), max(bottoms)),
        text="\n".join(line.text for line in lines),
    )


def _count(text: str) -> int:
    """Number of tokens."""
    return len(_TOKEN.findall(text))


def _first_tokens(text: str, number: int) -> str:
    """The text up to the end of its `number`th token."""
    tokens = list(_TOKEN.finditer(text))
    return text if len(tokens) <= number else text[: tokens[number - 1].end()]
