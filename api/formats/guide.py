"""Makes the JSON of docs/rest_api_guide.md: of /ocr, /batch/ocr and /chat, and /chat's events."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi.sse import format_sse_event
from pydantic_core import to_json

from api.errors.bodies import failure_body
from api.request_record import current_record
from api.schemas.extras import extras
from api.schemas.guide import Batch, BatchError, BatchItem, Chat, ChatPiece, Ocr, Page, PageError
from api.tasks.results import FileResult, PageFailure, PageResult
from api.wording import joined
from common.failures import Failure, Refusal
from common.messages import Answer, Piece, Stream, TextSource


def ocr(result: FileResult, model: str, language: str | None, warning: str | None = None) -> Ocr:
    """The answer of /ocr.

    language: the hint as it was given. warning: about the request, added to the model's own.
    """
    answer = Ocr(model=model, language=language, **_file_fields(result))
    answer.warning = joined(answer.warning, warning)
    return answer


def batch(outcomes: list[tuple[str, FileResult | Failure]], warning: str | None = None) -> Batch:
    """The answer of /batch/ocr.

    outcomes: the name of each file, and its result or failure. warning: about the request.
    """
    results = [_batch_entry(filename, outcome) for filename, outcome in outcomes]
    failed = sum(isinstance(result, BatchError) for result in results)
    return Batch(
        results=results,
        total=len(results),
        successful=len(results) - failed,
        failed=failed,
        warning=warning,
    )


def _batch_entry(filename: str, outcome: FileResult | Failure) -> BatchItem | BatchError:
    if isinstance(outcome, Failure):
        return BatchError(filename=filename, error=outcome.detail, code=outcome.code)
    return BatchItem(filename=filename, **_file_fields(outcome))


def _file_fields(result: FileResult) -> dict[str, Any]:
    """The fields that `Ocr` and `BatchItem` share."""
    fields = {
        "text": result.text,
        "processing_time": _rounded(result.seconds),
        "image_size": result.image_size,
    }
    if result.is_document:
        return fields | {"pages": [_page(page) for page in result.pages]}
    return fields | extras(result.first_page.answer)


def _page(page: PageResult | PageFailure) -> Page | PageError:
    if isinstance(page, PageFailure):
        return PageError(number=page.number, error=page.failure.detail, code=page.failure.code)
    return Page(
        number=page.number,
        text=page.answer.text,
        processing_time=_rounded(page.seconds),
        image_size=page.answer.image_size,
        **extras(page.answer),
    )


class ChatFormat:
    """The answer to one question, whole or as events."""

    def __init__(
        self,
        model: str,
        prompt: str,
        warning: str | None,
        began: float,
        source: TextSource | None = None,
    ) -> None:
        """warning: added to the model's own. began: when the request came in, as of
        `time.perf_counter`. source: said where the model does not say it."""
        self._source = source
        self._model = model
        self._prompt = prompt
        self._warning = warning
        self._began = began

    def answer(self, answer: Answer) -> Chat:
        said = {"source": self._source} if self._source else {}
        return Chat(
            response=answer.text,
            model=self._model,
            processing_time=_rounded(time.perf_counter() - self._began),
            prompt=self._prompt,
            **said | extras(answer.with_warnings([self._warning])),
        )

    async def events(self, stream: Stream) -> AsyncIterator[bytes]:
        """Events `piece`, then one `answer` with the guide's fields, or one `error`."""
        async with aclosing(stream):
            try:
                async for outcome in stream:
                    if isinstance(outcome, Piece):
                        yield _event("piece", ChatPiece(text=outcome.text).model_dump_json())
                    else:
                        yield _event("answer", self.answer(outcome).model_dump_json())
            except Refusal as refusal:
                current_record().reason = refusal.failure.detail
                yield _event("error", to_json(failure_body(refusal.failure, "/chat")).decode())


def _event(name: str, data: str) -> bytes:
    return format_sse_event(event=name, data_str=data)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
