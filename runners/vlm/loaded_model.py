"""A model in memory: requests to rows, and rows to answers. Imports torch."""

import asyncio
import gc
import importlib
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import aclosing
from typing import cast

import torch

from common import images
from common.catalog import Entry
from common.deadline import Deadline
from common.devices import cpu_memory
from common.failures import ErrorCode, Refusal
from common.messages import Answer, FinishReason, Piece, Request, Stream, Usage
from runners import malloc
from runners.metrics import Metrics
from runners.vlm.batcher import Batcher
from runners.vlm.interface import Encoded, Vlm
from runners.vlm.row import Finished, Row
from runners.vlm.sampling import Sampling
from runners.vlm.text_stream import Detokeniser, StopTexts, strip_cut_character
from settings import Settings

GRACE = 0.5
"""Seconds past its deadline that a row in flight may take to end by itself, with what it has; then
it is answered for, before the gateway gives it up."""
KV_SHARE = 0.6
"""Of the memory that is free; the rest is for activations, encoding, and the other models."""
GIB = 2**30
_LATE = "The request could not be answered within its time limit."


class LoadedModel:
    def __init__(self, entry: Entry, settings: Settings, encoders: Executor) -> None:
        """Loads the model; blocks. Raises `Refusal` where the weights or the device are not there.

        encoders: where images are decoded and encoded, beside the decode loop.
        """
        family = importlib.import_module(f"runners.families.{entry.family}")
        self._model: Vlm = family.load(entry, settings)
        self._encoders = encoders
        self._settings = settings
        self._gpus = settings.devices.get(entry.id, (self._model.device.index,))
        self.metrics = Metrics(entry.id)
        self.metrics.model_bytes.set(self._model.weights_bytes)
        self._batcher = Batcher(
            self._model,
            self.metrics,
            kv_budget=self._kv_budget,
            step_target=settings.step_target_ms / 1000,
        )
        self._batcher.start()

    @property
    def in_flight(self) -> int:
        return self._batcher.in_flight

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
        """On GPUs, all that is allocated; on the CPU, weights, KV cache and what is kept."""
        if self._model.device.type == "cuda":
            return sum(map(torch.cuda.memory_allocated, range(torch.cuda.device_count())))
        kept = sum(counts["bytes"] for counts in self._model.reuse_stats.values())
        return self._model.weights_bytes + self._batcher.kv_bytes + kept

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        """Raises `Refusal`."""
        if request.stop:  # its text has to be watched while it grows
            async with aclosing(self.stream(request, deadline)) as items:
                return cast(Answer, [item async for item in items][-1])
        encoded, row = await self._submit(request, deadline)
        return self._answer(request, encoded, await _finished(row))

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Pieces as they are made, the answer last; closing it frees the row. Raises `Refusal`.

        The pieces together are the text that the family makes its answer of. Where a loop was cut
        off, they have run ahead of it: the answer is what holds.
        """
        loop = asyncio.get_running_loop()
        tokens: asyncio.Queue[int | None] = asyncio.Queue()
        encoded, row = await self._submit(
            request, deadline, lambda token: loop.call_soon_threadsafe(tokens.put_nowait, token)
        )
        finished = asyncio.create_task(_finished(row))
        finished.add_done_callback(lambda _: tokens.put_nowait(None))
        detokeniser = Detokeniser(self._model.text)
        stop = StopTexts(request.stop)
        said: list[str] = []
        count = 0
        try:
            while (token := await tokens.get()) is not None:
                count += 1
                if piece := stop.add(detokeniser.add(token)):
                    said.append(piece)
                    yield Piece(text=piece)
                if stop.met:
                    yield self._made(request, encoded, "".join(said), "stop", count)
                    return
            if piece := stop.rest():
                yield Piece(text=piece)
            yield self._answer(request, encoded, finished.result())
        finally:
            row.future.cancel()

    def close(self) -> None:
        """Refuse the rows that are left; blocks."""
        self._batcher.close()
        self._model.forget()

    def release(self) -> None:
        """Let go of the model, and give what it held back to the system; blocks.

        The frames of requests that were refused may hold this object for a while yet.
        """
        del self._batcher, self._model
        self.metrics.unloaded()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        malloc.trim()

    async def _submit(
        self, request: Request, deadline: Deadline, on_token: Callable[[int], object] | None = None
    ) -> tuple[Encoded, Row]:
        loop = asyncio.get_running_loop()
        async with deadline.bound(_LATE):
            encoded, blank = await loop.run_in_executor(self._encoders, self._encode, request)
        sampling = Sampling(request.temperature, request.seed, request.top_p)
        row = Row(encoded, request.max_tokens, deadline, sampling, on_token)
        if blank:  # these models invent text for a page that has none
            row.future.set_result(Finished([], "stop"))
        else:
            self._batcher.submit(row)
        return encoded, row

    def _encode(self, request: Request) -> tuple[Encoded, bool]:
        """Also whether there is nothing to read."""
        pictures = [images.decode(image) for image in request.images]
        blank = request.task == "ocr" and images.is_blank(pictures[0])
        return self._model.encode(request, pictures), blank

    def _answer(self, request: Request, encoded: Encoded, finished: Finished) -> Answer:
        text = strip_cut_character(self._model.text(finished.tokens))
        return self._made(request, encoded, text, finished.reason, len(finished.tokens))

    def _made(
        self, request: Request, encoded: Encoded, text: str, reason: FinishReason, count: int
    ) -> Answer:
        """The family's answer. count: tokens made."""
        answer = self._model.answer(request, encoded, text, reason)
        usage = Usage(
            prompt_tokens=encoded.length,
            visual_tokens=encoded.visual_tokens,
            completion_tokens=count,
        )
        return answer.model_copy(update={"usage": usage})

    def _kv_budget(self, held: int) -> int:
        """Bytes that the KV cache may come to now, of the bytes that it holds."""
        if self._settings.kv_budget_gib is not None:
            return int(self._settings.kv_budget_gib * GIB)
        if self._model.device.type == "cuda":
            free = len(self._gpus) * min(map(_free_on_gpu, self._gpus))
        else:
            free = cpu_memory().free
        return held + int(free * KV_SHARE)


async def _finished(row: Row) -> Finished:
    """What the row came to; where it is held up past its deadline, the tokens that it has.

    Raises `Refusal`, DEADLINE where it has none by then. Cancelling it frees the row.
    """
    try:
        async with row.deadline.bound(_LATE, GRACE):
            return await asyncio.wrap_future(row.future)
    except Refusal as late:
        if late.code is not ErrorCode.DEADLINE or not row.tokens:
            raise
        return Finished(list(row.tokens), "deadline")


def _free_on_gpu(number: int) -> int:
    """Bytes that the driver, or the allocator of this process, has to give."""
    cached = torch.cuda.memory_reserved(number) - torch.cuda.memory_allocated(number)
    return torch.cuda.mem_get_info(number)[0] + cached
