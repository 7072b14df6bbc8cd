"""Makes the answer to a request from the pages that were read."""

import json
import re
from collections.abc import Sequence

import langcodes

from common.messages import Answer, Block, Constraint, Line, Request, TextSource, Usage
from runners.reader.extraction.extract import extract
from runners.reader.markdown import as_markdown
from runners.reader.questions.replies import lines_of, reply_to
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
            text=as_markdown(page) if request.options.formatted else page.text,
            image_size=page.size,
            finish_reason="stop",
            lines=page.lines,
            blocks=[_block(lines) for lines in page.blocks] if layout else None,
            rotation=page.rotation,
            warning=warning,
        )
    if request.constraint is not None:
        return _extraction(request, request.constraint, pages, warning)
    prompt = _prompt(request)
    reply = reply_to(prompt, pages)
    whole = reply.text
    if request.stop:
        whole = re.split("|".join(map(re.escape, request.stop)), whole)[0]
    text = _first_tokens(whole, request.max_tokens)
    return Answer(
        text=text,
        image_size=page.size,
        finish_reason="stop" if text == whole else "length",
        usage=Usage(prompt_tokens=_count(prompt), visual_tokens=0, completion_tokens=_count(text)),
        lines=reply.lines,
        rotation=page.rotation,
        prompt_used=True,
        source=_source(request) if request.says_source else None,
        warning=warning,
    )


def _extraction(
    request: Request, constraint: Constraint, pages: Sequence[ReadPage], warning: str | None
) -> Answer:
    """The fields that a schema asks for, as JSON.

    Raises `Refusal` (BAD_PARAMETER) if what the answer is held to is no schema of fields.
    """
    schema = json.loads(constraint.text) if constraint.kind == "json" else {}
    found = extract(schema, lines_of(pages))
    text = json.dumps(found.data, ensure_ascii=False)
    answer = Answer(
        text=text,
        image_size=pages[0].size,
        finish_reason="stop",
        usage=Usage(prompt_tokens=0, visual_tokens=0, completion_tokens=_count(text)),
        lines=found.lines,
        rotation=pages[0].rotation,
        source=_source(request) if request.says_source else None,
        warning=warning,
    )
    return answer.with_warnings([found.warning])


def _source(request: Request) -> TextSource:
    """Where the text of the request's pages comes from."""
    layers = [image.text is not None for image in request.shown]
    if all(layers):
        return "text_layer"
    return "both" if any(layers) else "image"


def _prompt(request: Request) -> str:
    """The last text that is no answer: a picture alone is for what was said before it.

    What a system prompt says counts only if the user says nothing.
    """
    said = [
        (turn.role, "\n".join(part for part in turn.parts if isinstance(part, str)).strip())
        for turn in request.turns
    ]
    for role in ("user", "system"):
        texts = [text for speaker, text in said if speaker == role and text]
        if texts:
            return texts[-1]
    return ""


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
