"""Reads the text of a request's files, page by page and side by side."""

import asyncio
import time
from collections.abc import Sequence

from api.documents.opening import Pages
from api.documents.selection import select_pages
from api.gateway import Gateway
from api.intake.files.multipart_forms import Upload
from api.intake.languages import language_code
from api.intake.parameters import OcrParameters
from api.request_record import current_record
from api.tasks.results import FileResult, PageFailure, PageResult
from common.catalog import Entry
from common.deadline import Deadline
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Answer, Request, single_turn

PAGES_AT_ONCE = 8
"""Pages of one request that are drawn, sent and read at once. It bounds their memory."""


class FileReader:
    """Reads the files of one request, all in the same way."""

    def __init__(self, gateway: Gateway, parameters: OcrParameters, deadline: Deadline) -> None:
        """Picks the model and checks that it takes the options.

        Raises `Refusal`: UNKNOWN_MODEL, UNAVAILABLE, or BAD_PARAMETER for an option that the model
        does not take, or an unknown language.
        """
        self.entry: Entry = gateway.fleet.pick(
            parameters.model, parameters.options.model_fields_set
        )
        self._language = language_code(parameters.language) if parameters.language else None
        self._parameters = parameters
        # An option asks for something that a text layer does not have.
        self._takes_layers = parameters.text_layer == "auto" and not (
            parameters.options.model_fields_set
        )
        self._gateway = gateway
        self._deadline = deadline
        self._slots = asyncio.Semaphore(PAGES_AT_ONCE)

    async def read(self, data: bytes) -> FileResult:
        """What was read of the file. A page that fails does not fail the document.

        Raises `Refusal` if the file cannot be opened, if the queue has no place for the first page,
        or if every page failed.
        """
        began = time.perf_counter()
        async with self._gateway.documents.open(data) as pages:
            numbers = select_pages(
                self._parameters.pages, pages.count, self._gateway.settings.max_pages
            )
            if not pages.is_document:
                page = await self._read_page(pages, 1)
                return FileResult((page,), is_document=False, seconds=page.seconds)
            outcomes = await self._read_pages(pages, numbers)
        failures = [page.failure for page in outcomes if isinstance(page, PageFailure)]
        if len(failures) == len(outcomes):
            raise Refusal.of(failures[0])
        return FileResult(tuple(outcomes), is_document=True, seconds=time.perf_counter() - began)

    async def try_read(self, upload: Upload) -> FileResult | Failure:
        """Does what `read` does, but returns a failure instead of raising a `Refusal`."""
        if upload.failure is not None:
            return upload.failure
        try:
            return await self.read(upload.data)
        except Refusal as refusal:
            return refusal.failure

    async def _read_pages(
        self, pages: Pages, numbers: Sequence[int]
    ) -> list[PageResult | PageFailure]:
        """The outcomes in the order of `numbers`.

        Raises `Refusal` (QUEUE_FULL) if the queue has no place for the first page. Once it has,
        the document is accepted, and its other pages wait for a place.
        """

        async def read(number: int) -> PageResult | PageFailure:
            is_first = number == numbers[0]
            try:
                return await self._read_page(pages, number, wait_for_queue=not is_first)
            except Refusal as refusal:
                if is_first and refusal.code is ErrorCode.QUEUE_FULL:
                    raise
                return PageFailure(number, refusal.failure)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(read(number)) for number in numbers]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _read_page(
        self, pages: Pages, number: int, wait_for_queue: bool = False
    ) -> PageResult:
        """What was read of one page.

        wait_for_queue: try again while the model's queue is full.

        Raises `Refusal`.
        """
        async with self._slots:
            began = time.perf_counter()
            async with self._deadline.bound():
                answer = await self._text_layer(pages, number)
                image = b"" if answer else await pages.image(number)
                warning = None if answer else await pages.warning(number)
            while answer is None:
                try:
                    answer = await self._ask(image)
                except Refusal as refusal:
                    if refusal.code is not ErrorCode.QUEUE_FULL or not wait_for_queue:
                        raise
                    pause = refusal.failure.retry_after or 1
                    await asyncio.sleep(min(pause, self._deadline.left))
        answer = answer.with_warnings([warning])
        return PageResult(number, answer, time.perf_counter() - began)

    async def _text_layer(self, pages: Pages, number: int) -> Answer | None:
        """The page's own text, if the client wants it and it is sound: no model is needed."""
        if not self._takes_layers:
            return None
        text = await pages.text_layer(number)
        if text is None:
            return None
        current_record().pages += 1
        return Answer(
            text=text.text,
            image_size=text.size,
            finish_reason="stop",
            lines=text.lines,
            source="text_layer",
        )

    async def _ask(self, image: bytes) -> Answer:
        request = Request(
            task="ocr",
            turns=single_turn([image]),
            language=self._language,
            max_tokens=self._parameters.max_tokens or self.entry.reading_tokens,
            options=self._parameters.options,
        )
        answer = await self._gateway.fleet.ask(self.entry.id, request, self._deadline)
        if self._parameters.text_layer == "never":
            return answer
        return answer.model_copy(update={"source": "image"})
