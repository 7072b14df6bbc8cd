"""Turns dots.ocr's layout answer, JSON that may break off, into blocks and Markdown."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, FiniteFloat

from common.messages import Block, Box

Size = tuple[int, int]
"""Width, height in pixels."""


@dataclass(frozen=True)
class Layout:
    """What a layout answer says."""

    text: str
    """The blocks as Markdown; the answer itself if it is not JSON at all."""
    blocks: list[Block]
    """In reading order, as the model gave them."""
    truncated: bool
    """True if a part of the answer could not be parsed."""


class Element(BaseModel):
    """A block as the model writes it. Its box is in pixels of the image that the model saw."""

    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    category: str
    text: str | None = None


def read_layout(answer: str, scale: tuple[float, float], page: Size) -> Layout:
    """Parses every complete element of the answer.

    scale: pixels of the upright page per pixel of the image that the model saw, across and down.
    page: size of the upright page, to which boxes are clipped.
    """
    elements = _whole_elements(answer)
    truncated = bool(answer.strip()) and _count(answer) != len(elements)
    if not elements and truncated and not _looks_like_json(answer):
        return Layout(answer, [], True)
    blocks = [
        Block(
            category=element.category,
            box=_scaled(element.bbox, scale, page),
            text=(element.text or "").strip(),
        )
        for element in elements
    ]
    return Layout(to_markdown(blocks), blocks, truncated)


def to_markdown(blocks: Iterable[Block]) -> str:
    """Joins the texts of blocks. Tables stay HTML; pictures are left out, as there is no file."""
    return "\n\n".join(text for block in blocks if (text := _block_markdown(block)))


def _block_markdown(block: Block) -> str:
    match block.category:
        case "Picture":
            return ""
        case "Title" if block.text and not block.text.startswith("#"):
            return f"# {block.text}"
        case "Section-header" if block.text and not block.text.startswith("#"):
            return f"## {block.text}"
        case "Formula" if block.text and not block.text.startswith(("$", r"\[", r"\(")):
            return f"$${block.text}$$"
    return block.text


def _whole_elements(answer: str) -> list[Element]:
    decoder = json.JSONDecoder(strict=False)  # the model breaks lines inside strings
    elements = []
    start = answer.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(answer, start)
            elements.append(Element.model_validate(value))
        except (ValueError, RecursionError):  # not JSON, not an element, or nested without end
            end = start + 1
        start = answer.find("{", end)
    return elements


def _count(answer: str) -> int | None:
    """Counts the elements of the answer; None if it is not a single complete JSON value."""
    try:
        value = json.loads(answer, strict=False)
    except (ValueError, RecursionError):
        return None
    return len(value) if isinstance(value, list) else 1


def _looks_like_json(answer: str) -> bool:
    return answer.lstrip(" \n\t[")[:1] in ("", "{")


def _scaled(bbox: tuple[float, float, float, float], scale: tuple[float, float], page: Size) -> Box:
    def pixel(value: float, axis: int) -> int:
        return round(min(max(value * scale[axis], 0.0), page[axis]))

    x0, y0, x1, y1 = bbox
    left, right = sorted((pixel(x0, 0), pixel(x1, 0)))
    top, bottom = sorted((pixel(y0, 1), pixel(y1, 1)))
    return left, top, right, bottom
