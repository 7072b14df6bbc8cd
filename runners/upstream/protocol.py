"""The parts of OpenAI's protocol that an upstream's answers are read by. Other fields are passed
over."""

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from pydantic import BaseModel, Field


class ServedModel(BaseModel):
    """One of the models of `GET /models`."""

    id: str
    root: str | None = None
    """The folder or the repository that vLLM and SGLang have loaded under this id."""
    max_model_len: int | None = None
    """Most tokens of a prompt with its answer, which vLLM and SGLang tell."""


class ModelList(BaseModel):
    data: list[ServedModel]


class Delta(BaseModel):
    content: str | None = None


class Choice(BaseModel):
    delta: Delta = Delta()
    finish_reason: str | None = None


class TokenDetails(BaseModel):
    multimodal_tokens: dict[str, int] | None = None


class TokenCounts(BaseModel):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: TokenDetails | None = None


class StreamError(BaseModel):
    message: str = ""
    code: int | str | None = None

    @property
    def status(self) -> int:
        """The HTTP status that the error would have had before the stream began."""
        return self.code if isinstance(self.code, int) and 400 <= self.code < 600 else 500


class Chunk(BaseModel):
    """One event of a streamed answer."""

    choices: list[Choice] = Field(default_factory=list)
    usage: TokenCounts | None = None
    error: StreamError | None = None

    @property
    def text(self) -> str:
        return "".join(choice.delta.content or "" for choice in self.choices)

    @property
    def finish_reason(self) -> str | None:
        return next((choice.finish_reason for choice in self.choices if choice.finish_reason), None)


async def read_chunks(lines: AsyncIterable[bytes]) -> AsyncGenerator[Chunk, None]:
    """The chunks of a stream of server-sent events, up to its `[DONE]` or its end.

    Raises `ValueError` if an event is no chunk.
    """
    async for line in lines:
        field, _, value = line.strip().partition(b":")
        if field != b"data":  # a comment that keeps the connection, or an event's name
            continue
        if value.strip() == b"[DONE]":
            return
        yield Chunk.model_validate_json(value)


def message_of_error(body: Any) -> str:
    """What the body of an error response says, in the form of OpenAI or in another."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return str(error)
