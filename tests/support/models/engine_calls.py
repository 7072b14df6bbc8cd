"""Requests to an engine with the text-only model, and what is waited for."""

import asyncio
import io
from collections.abc import Callable

from PIL import Image

from common.deadline import Deadline
from common.messages import Answer, Piece, Request, Stream, single_turn
from runners.vlm.engine import VlmEngine
from tests.support.models.text_vlm import TextVlm, encode


def ask(
    text: str = "page", new: int = 20, seconds: float = 60, image: bytes = b"", **more: object
) -> tuple[Request, Deadline]:
    if not image:
        file = io.BytesIO()
        Image.new("RGB", (3, 2)).save(file, "PNG")
        image = file.getvalue()
    turns = single_turn([image], text)
    fields = {"task": "chat", "turns": turns, "max_tokens": new, "temperature": 0.0, **more}
    return Request.model_validate(fields), Deadline(seconds)


def alone(text: str, new: int = 20) -> str:
    tokens = TextVlm().generate(encode(text.encode()), new)
    return bytes(tokens).decode(errors="replace").rstrip("\ufffd").strip()


async def until(condition: Callable[[], object]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen within 30 seconds")


async def rows(engine: VlmEngine) -> int:
    return (await engine.status()).rows


async def all_of(stream: Stream) -> list[Piece | Answer]:
    return [item async for item in stream]


async def until_rows(engine: VlmEngine, count: int) -> None:
    for _ in range(6000):
        if await rows(engine) == count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"there were never {count} rows within 30 seconds")
