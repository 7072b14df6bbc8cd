"""Holds a model in memory, and turns requests into rows and rows into answers. Imports torch."""

import asyncio
import gc
import importlib
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import torch

from common import messages
from common.catalog import Entry
from common.deadline import Deadline
from common.devices import cpu_memory
from common.failures import ErrorCode, Refusal
from common.images import is_blank
from common.messages import Answer, FinishReason, Piece, Request, Stream, Usage
from common.units import GIB
from runners import gpu_memory, malloc, torch_errors
from runners.metrics import Metrics
from runners.scheduling.kv_space import KV_SHARE
from runners.scheduling.row import Finished, Row, Sampling
from runners.vlm.batcher import Batcher
from runners.vlm.interface import Encoded, ModelRequest, ModelTurn, Task, Vlm
from runners.vlm.request_images import ImageMemory
from runners.vlm.text_stream import Detokeniser, StopTexts, strip_cut_character
from runners.vlm.token_streams import TokenStreams
from settings import Settings

GRACE = 0.5
"""Seconds after its deadline within which a running row should end by itself, at its next step. If
it has not by then, it is answered with the tokens it has, before the gateway gives up."""
_TOO_LATE = "The request could not be answered within its time limit."


class LoadedModel:
    """A model in memory, with the batcher that runs its rows. Used by one event loop."""

    def __init__(self, entry: Entry, settings: Settings, encoders: Executor) -> None:
        """Load the model. Raises `Refusal` if the weights or the device are not there. Blocks.

        encoders: runs the decoding and encoding of images, beside the decode loop.
        """
        family = importlib.import_module(f"runners.families.{entry.family}")
        try:
            self._model: Vlm = family.load(entry, settings)
        except Exception as error:
            if not torch_errors.is_out_of_memory(error):
                raise
            raise Refusal(
                ErrorCode.OUT_OF_MEMORY,
                f"The device has too little free memory to load {entry.name}.",
            ) from error
        self._encoders = encoders
        self._images = ImageMemory()
        self._settings = settings
        self._gpus = settings.gpus_of(entry.id)
        self.metrics = Metrics(entry.id)
        self.metrics.model_bytes.set(self._model.weights_bytes)
        self._streams = TokenStreams()
        self._batcher = Batcher(
            self._model,
            self.metrics,
            kv_budget=self._kv_budget,
            step_target=settings.step_target_ms / 1000,
            token_gap=settings.token_gap_ms / 1000,
            after_tokens=self._streams.deliver,
        )
        self._batcher.start()

    @property
    def running_rows(self) -> int:
        return self._batcher.running_rows

    @property
    def is_alive(self) -> bool:
        return self._batcher.is_alive

    @property
    def device(self) -> str:
        return str(self._model.device)

    @property
    def dtype(self) -> str:
        return str(self._model.dtype).removeprefix("torch.")

    @property
    def memory_bytes(self) -> int:
        """On GPUs, all that is allocated; on the CPU, weights, KV cache and reuse memory."""
        if self._model.device.type == "cuda":
            return gpu_memory.allocated_on_gpus()
        kept = sum(counts["bytes"] for counts in self._model.reuse_stats.values())
        return self._model.weights_bytes + self._batcher.kv_bytes + kept

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        """Answer a request. Raises `Refusal`."""
        if request.stop:  # stop texts are looked for while the text grows
            async with aclosing(self.stream(request, deadline)) as items:
                return cast(Answer, [item async for item in items][-1])
        submitted = await self._submit(request, deadline)
        return self._answer_of(submitted, await _result(submitted.row))

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Make pieces of the text, then the answer. Closing it frees the row. Raises `Refusal`.

        Joined, the pieces are the text from which the family builds the answer. If a loop was cut
        off, the pieces contain more of it than the answer does.
        """
        made = self._streams.open()
        submitted = await self._submit(request, deadline, made.add)
        result = asyncio.create_task(_result(submitted.row))
        result.add_done_callback(lambda _: made.end())
        detokeniser = Detokeniser(self._model.text)
        stop = StopTexts(request.stop)
        shown: list[str] = []
        count = 0
        try:
            while (token := await made.tokens.get()) is not None:
                count += 1
                if piece := stop.add(detokeniser.add(token)):
                    shown.append(piece)
                    yield Piece(text=piece)
                if stop.met:
                    yield self._build_answer(submitted, "".join(shown), "stop", count)
                    return
            if piece := stop.rest():
                yield Piece(text=piece)
            yield self._answer_of(submitted, result.result())
        finally:
            submitted.row.future.cancel()

    def close(self) -> None:
        """Refuse the rows that are left. Blocks."""
        self._batcher.close()
        self._model.forget()

    def release(self) -> None:
        """Let go of the model and return its memory to the system. Blocks.

        Call it after `close`, and nothing after it.
        """
        # A refused request may hold this object for a while longer; it must not hold the model.
        del self._batcher, self._model
        self.metrics.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        malloc.trim()

    async def _submit(
        self, request: Request, deadline: Deadline, on_token: Callable[[int], object] | None = None
    ) -> "_Submitted":
        """Encode a request and queue its row. Raises `Refusal`."""
        loop = asyncio.get_running_loop()
        async with deadline.bound(_TOO_LATE):
            task, encoded, blank, warnings = await loop.run_in_executor(
                self._encoders, self._encode, request
            )
        sampling = Sampling(request.temperature, request.seed, request.top_p)
        row = Row(encoded, request.max_tokens, deadline, sampling, on_token)
        if blank:  # these models invent text for a page without any
            row.future.set_result(Finished([], "stop"))
        else:
            self._batcher.submit(row)
        return _Submitted(task, encoded, row, warnings)

    def _encode(self, request: Request) -> tuple[Task, Encoded, bool, list[str]]:
        """The task, the request as tensors, whether there is nothing to read, and warnings.

        The decoded images are freed when this returns.
        """
        asked = self._model_request(request)
        blank = request.task == "ocr" and is_blank(asked.images[0].pixels)
        encoded = self._model.encode(asked)
        for image in asked.images:
            self._images.remember(image)
        warnings = dict.fromkeys(text for image in asked.images for text in image.facts.warnings)
        return asked.task, encoded, blank, list(warnings)

    def _model_request(self, request: Request) -> ModelRequest:
        turns = tuple(
            ModelTurn(
                turn.role,
                tuple(
                    self._images.image(part.data) if isinstance(part, messages.Image) else part
                    for part in turn.parts
                ),
            )
            for turn in request.turns
        )
        task = Task(request.task, request.language, request.options)
        return ModelRequest(task, turns, request.max_tokens)

    def _answer_of(self, submitted: "_Submitted", finished: Finished) -> Answer:
        text = strip_cut_character(self._model.text(finished.tokens))
        return self._build_answer(submitted, text, finished.reason, len(finished.tokens))

    def _build_answer(
        self, submitted: "_Submitted", text: str, reason: FinishReason, completion_tokens: int
    ) -> Answer:
        """The family's answer, with its usage."""
        encoded = submitted.encoded
        answer = self._model.answer(submitted.task, encoded, text, reason)
        usage = Usage(
            prompt_tokens=encoded.length,
            visual_tokens=encoded.visual_tokens,
            completion_tokens=completion_tokens,
        )
        return answer.model_copy(update={"usage": usage}).with_warnings(submitted.warnings)

    def _kv_budget(self, held: int) -> int:
        """How many bytes the KV cache may hold now. held: how many it holds."""
        if self._settings.kv_budget_gib is not None:
            return int(self._settings.kv_budget_gib * GIB)
        if self._model.device.type == "cuda":
            free = gpu_memory.free_on_gpus(self._gpus)
        else:
            free = cpu_memory().free
        return int((held + free) * KV_SHARE)


@dataclass(frozen=True)
class _Submitted:
    """A request whose row was submitted. Its decoded images are no longer held."""

    task: Task
    encoded: Encoded
    row: Row
    warnings: list[str]
    """What was not read of the images."""


async def _result(row: Row) -> Finished:
    """The result of a row, or, if the row is held up past its deadline, the tokens that it has.

    Raises `Refusal`; its code is DEADLINE if there are no tokens by then. Cancelling this frees the
    row.
    """
    try:
        async with row.deadline.bound(_TOO_LATE, GRACE):
            return await asyncio.wrap_future(row.future)
    except Refusal as late:
        if late.code is not ErrorCode.DEADLINE or not row.tokens:
            raise
        return Finished(list(row.tokens), "deadline")
