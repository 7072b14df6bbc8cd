"""Requests for chat completions, in the words of OpenAI's protocol."""

import httpx

from common.messages import Answer, Usage
from tests.support.fakes.runner import data_url

MODEL = "qwen3_vl_2b"
ANSWER = Answer(
    text="A cat.",
    image_size=(4, 3),
    finish_reason="stop",
    usage=Usage(prompt_tokens=30, visual_tokens=20, completion_tokens=3),
)


def image(data: bytes, **more: str) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(data), **more}}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def user(*parts: dict | str) -> dict:
    content = parts[0] if isinstance(parts[0], str) else list(parts)
    return {"role": "user", "content": content}


async def ask(client: httpx.AsyncClient, *said: dict, **more: object) -> httpx.Response:
    body = {"model": MODEL, "messages": list(said) or [user("What?")]} | more
    return await client.post("/v1/chat/completions", json=body)


async def error(client: httpx.AsyncClient, *said: dict, **more: object) -> tuple[int, dict]:
    response = await ask(client, *said, **more)
    assert set(response.json()) == {"error"}
    return response.status_code, response.json()["error"]
