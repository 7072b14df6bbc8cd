"""Makes OpenAI's JSON: a chat completion, whole or in chunks."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi.sse import format_sse_event

from api.errors.bodies import OPENAI_PREFIX, failure_body
from api.request_record import current_record
from api.schemas.extras import OPENAI_EXTRAS, extras
from api.schemas.openai import Choice, Completion, CompletionUsage, FinishReason, ReplyMessage
from common.failures import Refusal
from common.messages import Answer, Piece, Stream, TextSource


class CompletionFormat:
    """One chat completion, whole or in chunks."""

    def __init__(self, model: str, include_usage: bool, source: TextSource | None = None) -> None:
        """include_usage: whether the last chunk of a stream tells the usage. source: said where the
        model does not say it."""
        self._source = source
        self._include_usage = include_usage
        self._identity: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def completion(self, answer: Answer) -> Completion:
        message = ReplyMessage(content=answer.text)
        return Completion(
            **self._identity,
            choices=[Choice(message=message, finish_reason=_finish_reason(answer))],
            usage=_usage(answer),
            **self._extras(answer),
        )

    async def events(self, stream: Stream) -> AsyncIterator[bytes]:
        """An event for each chunk, then `[DONE]`. An error ends the stream instead.

        The last chunks have the finish reason and the usage.
        """
        async with aclosing(stream):
            yield self._chunk({"role": "assistant", "content": ""})
            try:
                async for outcome in stream:
                    if isinstance(outcome, Piece):
                        yield self._chunk({"content": outcome.text})
                        continue
                    more = self._extras(outcome)
                    yield self._chunk({}, _finish_reason(outcome), **more)
                    if self._include_usage:
                        usage = _usage(outcome)
                        yield self._chunk_event(choices=[], usage=usage and usage.model_dump())
                    break
            except Refusal as refusal:
                current_record().reason = refusal.failure.detail
                yield _event(failure_body(refusal.failure, OPENAI_PREFIX))
                return
        yield format_sse_event(data_str="[DONE]")

    def _extras(self, answer: Answer) -> dict[str, Any]:
        said = {"source": self._source} if self._source else {}
        return said | extras(answer, OPENAI_EXTRAS)

    def _chunk(
        self, delta: dict[str, str], finish_reason: FinishReason | None = None, **fields: Any
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        if self._include_usage:
            fields["usage"] = None
        return self._chunk_event(choices=[choice], **fields)

    def _chunk_event(self, **fields: Any) -> bytes:
        return _event({**self._identity, "object": "chat.completion.chunk", **fields})


def _event(data: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(data, ensure_ascii=False))


def _finish_reason(answer: Answer) -> FinishReason:
    # OpenAI has no reason for a loop or a time limit; "length" is the nearest.
    return "stop" if answer.finish_reason in (None, "stop") else "length"


def _usage(answer: Answer) -> CompletionUsage | None:
    if answer.usage is None:
        return None
    prompt, completion = answer.usage.prompt_tokens, answer.usage.completion_tokens
    return CompletionUsage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )
