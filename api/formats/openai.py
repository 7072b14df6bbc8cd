"""Makes OpenAI's JSON: a chat completion, whole or in chunks."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi.sse import format_sse_event

from api.errors.bodies import OPENAI_PREFIX, failure_body
from api.request_record import current_record
from api.schemas.extras import OPENAI_EXTRAS, extras
from api.schemas.openai import (
    Choice,
    Completion,
    CompletionUsage,
    FinishReason,
    Logprobs,
    ReplyMessage,
    TokenLogprob,
    TopLogprob,
)
from api.schemas.structured import ReplyCall, ReplyFunction
from common.failures import Refusal
from common.messages import Answer, ChosenToken, Piece, Stream, TextSource, ToolCall
from common.messages import TokenLogprob as Token

_CUT_OFF: dict[str | None, str] = {
    "repetition": "The answer was cut off at a repetition: the model repeated itself without end.",
    "deadline": "The answer was cut off at the deadline: the time limit of the request passed.",
}
"""What a warning says of the finish reasons that OpenAI does not have."""


class CompletionFormat:
    """One chat completion, whole or in chunks."""

    def __init__(
        self,
        model: str,
        include_usage: bool,
        source: TextSource | None = None,
        choices: int = 1,
    ) -> None:
        """include_usage: whether the last chunk of a stream tells the usage. source: said where the
        model does not say it. choices: how many answers a stream has."""
        self._source = source
        self._include_usage = include_usage
        self._choices = choices
        self._identity: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def completion(self, answer: Answer) -> Completion:
        return Completion(
            **self._identity,
            choices=[
                Choice(
                    index=index,
                    message=self._message(index, one),
                    logprobs=_logprobs(one.tokens),
                    finish_reason=_finish_reason(one),
                )
                for index, one in enumerate((answer, *answer.others))
            ],
            usage=_usage(answer),
            **self._extras(answer),
        )

    async def events(self, stream: Stream) -> AsyncIterator[bytes]:
        """An event for each chunk, then `[DONE]`. An error ends the stream instead.

        The last chunks have the finish reasons and the usage.
        """
        async with aclosing(stream):
            for index in range(self._choices):
                yield self._chunk(index, {"role": "assistant", "content": ""})
            try:
                async for outcome in stream:
                    if isinstance(outcome, Piece):
                        delta = self._delta(outcome)
                        yield self._chunk(outcome.index, delta, tokens=outcome.tokens)
                        continue
                    more = self._extras(outcome)
                    for index, one in enumerate((outcome, *outcome.others)):
                        yield self._chunk(index, {}, _finish_reason(one), **more)
                        more = {}
                    if self._include_usage:
                        usage = _usage(outcome)
                        yield self._chunk_event(choices=[], usage=usage and usage.model_dump())
                    break
            except Refusal as refusal:
                current_record().reason = refusal.failure.detail
                yield _event(failure_body(refusal.failure, OPENAI_PREFIX))
                return
        yield format_sse_event(data_str="[DONE]")

    def _message(self, index: int, answer: Answer) -> ReplyMessage:
        calls = [
            ReplyCall(
                id=self._call_id(index, number),
                function=ReplyFunction(name=call.name, arguments=call.arguments),
            )
            for number, call in enumerate(answer.calls)
        ]
        return ReplyMessage(
            content=answer.text or (None if calls else ""), tool_calls=calls or None
        )

    def _delta(self, piece: Piece) -> dict[str, Any]:
        call = piece.call
        if call is None:
            return {"content": piece.text}
        function = {"arguments": call.arguments}
        if call.name is None:
            return {"tool_calls": [{"index": call.number, "function": function}]}
        begun = {
            "index": call.number,
            "id": self._call_id(piece.index, call.number),
            "type": "function",
            "function": {"name": call.name} | function,
        }
        return {"tool_calls": [begun]}

    def _call_id(self, index: int, number: int) -> str:
        """The id of a call of one answer, the same whole and in chunks."""
        return f"call_{self._identity['id'].removeprefix('chatcmpl-')}_{index}_{number}"

    def _extras(self, answer: Answer) -> dict[str, Any]:
        """The fields that OpenAI does not have, those of the first answer, and all warnings."""
        said = {"source": self._source} if self._source else {}
        warnings = dict.fromkeys(
            warning
            for one in (answer, *answer.others)
            for warning in (one.warning, _CUT_OFF.get(one.finish_reason))
        )
        warned = answer.model_copy(update={"warning": None}).with_warnings(list(warnings))
        return said | extras(warned, OPENAI_EXTRAS)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        finish_reason: FinishReason | None = None,
        tokens: Sequence[ChosenToken] | None = None,
        **fields: Any,
    ) -> bytes:
        logprobs = _logprobs(tokens)
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs and logprobs.model_dump(),
            "finish_reason": finish_reason,
        }
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
    return "tool_calls" if answer.calls and _is_whole(answer.calls[-1]) else "stop"


def _is_whole(call: ToolCall) -> bool:
    """Whether a call has all of its arguments; a stop text may have cut them."""
    try:
        json.loads(call.arguments)
    except ValueError:
        return False
    return True


def _logprobs(tokens: Sequence[ChosenToken] | None) -> Logprobs | None:
    if tokens is None:
        return None
    return Logprobs(
        content=[
            TokenLogprob(
                **_token(token), top_logprobs=[TopLogprob(**_token(o)) for o in token.likeliest]
            )
            for token in tokens
        ]
    )


def _token(token: Token) -> dict[str, Any]:
    return {
        "token": token.data.decode(errors="replace"),
        "logprob": token.logprob,
        "bytes": list(token.data),
    }


def _usage(answer: Answer) -> CompletionUsage | None:
    """The prompt counts once, the tokens of all answers count."""
    if answer.usage is None:
        return None
    prompt = answer.usage.prompt_tokens
    used = [one.usage for one in (answer, *answer.others)]
    completion = sum(usage.completion_tokens for usage in used if usage)
    return CompletionUsage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )
