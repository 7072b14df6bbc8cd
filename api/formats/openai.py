"""Makes OpenAI's JSON: a chat completion, whole or in chunks."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi.sse import format_sse_event

from api.errors.bodies import OPENAI_PREFIX, failure_body
from api.schemas.extras import OPENAI_EXTRAS, extras
from api.schemas.openai import Choice, Completion, CompletionUsage, FinishReason, ReplyMessage
from api.schemas.structured import ReplyCall, ReplyFunction
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
        calls = [
            ReplyCall(
                id=self._call_id(number),
                function=ReplyFunction(name=call.name, arguments=call.arguments),
            )
            for number, call in enumerate(answer.calls)
        ]
        content = answer.text or (None if calls else "")
        message = ReplyMessage(content=content, tool_calls=calls or None)
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
                        yield self._chunk(self._delta(outcome))
                        continue
                    more = self._extras(outcome)
                    yield self._chunk({}, _finish_reason(outcome), **more)
                    if self._include_usage:
                        usage = _usage(outcome)
                        yield self._chunk_event(choices=[], usage=usage and usage.model_dump())
                    break
            except Refusal as refusal:
                yield _event(failure_body(refusal.failure, OPENAI_PREFIX))
                return
        yield format_sse_event(data_str="[DONE]")

    def _delta(self, piece: Piece) -> dict[str, Any]:
        call = piece.call
        if call is None:
            return {"content": piece.text}
        function = {"arguments": call.arguments}
        if call.name is None:
            return {"tool_calls": [{"index": call.number, "function": function}]}
        begun = {
            "index": call.number,
            "id": self._call_id(call.number),
            "type": "function",
            "function": {"name": call.name} | function,
        }
        return {"tool_calls": [begun]}

    def _call_id(self, number: int) -> str:
        """The id of a call, the same whole and in chunks."""
        return f"call_{self._identity['id'].removeprefix('chatcmpl-')}_{number}"

    def _extras(self, answer: Answer) -> dict[str, Any]:
        said = {"source": self._source} if self._source else {}
        return said | extras(answer, OPENAI_EXTRAS)

    def _chunk(
        self, delta: dict[str, Any], finish_reason: FinishReason | None = None, **fields: Any
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
    if answer.finish_reason not in (None, "stop"):
        return "length"
    return "tool_calls" if answer.calls else "stop"


def _usage(answer: Answer) -> CompletionUsage | None:
    if answer.usage is None:
        return None
    prompt, completion = answer.usage.prompt_tokens, answer.usage.completion_tokens
    return CompletionUsage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )
