"""Holds a model in memory, and turns requests into rows and rows into answers. Imports torch."""

import asyncio
import gc
import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import cast

import torch

from common import messages
from common.catalog import Entry, SamplingParameters
from common.constraints.grammars import BadConstraint, grammar_of
from common.deadline import Deadline
from common.devices import cpu_memory
from common.failures import ErrorCode, Refusal
from common.messages import Answer, ChosenToken, FinishReason, Request, Stream, ToolCall, Usage
from common.units import GIB
from runners import gpu_memory, malloc, torch_errors
from runners.checkpoints.sampling_defaults import parameters_of
from runners.constraints.guide import Guide
from runners.legibility import shrink_warning
from runners.metrics import Metrics
from runners.sampling.logprobs import chosen_tokens
from runners.scheduling.kv_space import KV_SHARE
from runners.scheduling.row import Finished, Row, Sampling
from runners.tool_calls.qwen import call_grammar
from runners.tool_calls.reader import CallReader
from runners.vlm.batcher import Batcher
from runners.vlm.interface import Encoded, ModelRequest, ModelTurn, Task, Vlm
from runners.vlm.request_images import ImageMemory
from runners.vlm.text_stream import AnswerText, StreamedAnswer, strip_cut_character
from runners.vlm.token_streams import TokenStreams
from settings import Settings

GRACE = 0.5
"""Seconds after its deadline within which a running row should end by itself, at its next step. If
it has not by then, it is answered with the tokens it has, before the gateway gives up."""
_IMAGE_SHARE = 0.5
"""Share of the KV cache that one image may take."""
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
        self._entry = entry
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
        column = self._model.pool.bytes_per_block / self._model.pool.block_size
        self._model.bound_images(int(self._kv_budget(0) * _IMAGE_SHARE / column))

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
        if request.stop or request.n > 1:  # stop texts are looked for while the text grows
            async with aclosing(self.stream(request, deadline)) as items:
                return cast(Answer, [item async for item in items][-1])
        submitted = await self._submit(request, deadline)
        return self._answer_of(submitted, await _result(submitted.rows[0]))

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Make pieces of the text, then the answer. Closing it frees the rows. Raises `Refusal`.

        Joined, the pieces are the text from which the family builds the answer.
        """
        made = self._streams.open()
        submitted = await self._submit(request, deadline, made.add)
        results = [asyncio.create_task(_result(row)) for row in submitted.rows]
        for index, result in enumerate(results):
            result.add_done_callback(lambda _, index=index: made.end(index))  # type: ignore[misc]
        parts = [self._part(request, row) for row in submitted.rows]
        answers: dict[int, Answer] = {}
        try:
            while len(answers) < request.n:
                index, token = await made.tokens.get()
                if index in answers:  # it has met a stop text
                    continue
                part = parts[index]
                for piece in part.end() if token is None else part.add(token):
                    yield piece.model_copy(update={"index": index})
                if token is None:
                    answers[index] = self._answer_of(submitted, results[index].result())
                elif part.text.met:
                    submitted.rows[index].future.cancel()
                    answers[index] = self._build_answer(
                        submitted, part.text.shown, "stop", part.text.count, part.tokens
                    )
            first, *others = [answers[index] for index in range(request.n)]
            yield first.model_copy(update={"others": tuple(others)})
        finally:
            for row in submitted.rows:
                row.future.cancel()

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
        self, request: Request, deadline: Deadline, on_token: Callable[..., object] | None = None
    ) -> "_Submitted":
        """Encode a request and queue its rows. Raises `Refusal`.

        on_token: called with each token, and the number of its row as `row`.
        """
        loop = asyncio.get_running_loop()
        async with deadline.bound(_TOO_LATE):
            task, encoded, blank, warnings, guides = await loop.run_in_executor(
                self._encoders, self._encode, request
            )
        room = request.max_tokens if encoded.room is None else encoded.room
        rows = [
            Row(
                encoded,
                min(request.max_tokens, room),
                deadline,
                self._sampling(request, index),
                partial(on_token, row=index) if on_token else None,
                guide,
            )
            for index, guide in enumerate(guides)
        ]
        for row in rows:
            row.siblings = rows
            if blank:  # these models invent text for a page without any
                row.future.set_result(Finished([], "stop", 0))
            else:
                self._batcher.submit(row)
        return _Submitted(task, encoded, rows, warnings, bool(request.toolbox))

    def _sampling(self, request: Request, index: int) -> Sampling:
        """How the tokens of answer `index` are chosen."""
        asked = SamplingParameters(
            **{field.name: getattr(request, field.name) for field in fields(SamplingParameters)}
        )
        chosen = parameters_of(request.task, asked, self._model.sampling, self._entry.sampling)
        return Sampling(
            seed=None if request.seed is None else request.seed + index,
            logprobs=request.logprobs,
            **asdict(chosen),
        )

    def _encode(
        self, request: Request
    ) -> tuple[Task, Encoded, bool, list[str], list[Guide | None]]:
        """The task, the request as tensors, whether there is nothing to read, warnings, guides.

        The decoded images are freed when this returns.
        """
        asked = self._model_request(request)
        blank = request.task == "ocr" and asked.images[0].facts.is_blank
        encoded = self._model.encode(asked)
        warnings = [text for image in asked.images for text in image.facts.warnings]
        for image, seen in zip(asked.images, encoded.seen_sizes, strict=False):
            warning = shrink_warning(image.facts.size, seen, image.letter_height)
            warnings += [warning] if warning else []
        for image in asked.images:
            self._images.remember(image)
        return asked.task, encoded, blank, list(dict.fromkeys(warnings)), self._guides(request)

    def _guides(self, request: Request) -> list[Guide | None]:
        """What each answer is held to, if anything. Raises `Refusal`."""
        if request.toolbox is not None:
            grammar = call_grammar(request.toolbox, request.constraint, self._model.vocabulary)
        elif request.constraint is not None:
            try:
                grammar = grammar_of(request.constraint)
            except BadConstraint as error:
                detail = f"The answer cannot be held to the {request.constraint.kind}: {error}."
                raise Refusal(ErrorCode.BAD_PARAMETER, detail) from error
        else:
            return [None] * request.n
        return [Guide(self._model.vocabulary, grammar) for _ in range(request.n)]

    def _model_request(self, request: Request) -> ModelRequest:
        turns = tuple(
            ModelTurn(
                turn.role,
                tuple(
                    self._images.image(part.data) if isinstance(part, messages.Image) else part
                    for part in turn.parts
                ),
                turn.calls,
            )
            for turn in request.turns
        )
        task = Task(request.task, request.language, request.options)
        return ModelRequest(task, turns, request.max_tokens, request.toolbox)

    def _part(self, request: Request, row: Row) -> StreamedAnswer:
        text = AnswerText(self._model.text, request.stop, row.sampling.min_tokens)
        return StreamedAnswer(text, row, self._model.token_data, bool(request.toolbox))

    def _answer_of(self, submitted: "_Submitted", finished: Finished) -> Answer:
        text = strip_cut_character(self._model.text(finished.tokens))
        tokens = (
            chosen_tokens(finished.tokens, finished.logprobs, self._model.token_data)
            if finished.logprobs
            else None
        )
        return self._build_answer(submitted, text, finished.reason, finished.made, tokens)

    def _build_answer(
        self,
        submitted: "_Submitted",
        text: str,
        reason: FinishReason,
        made: int,
        tokens: Sequence[ChosenToken] | None,
    ) -> Answer:
        """The family's answer, with its usage and its tokens. made: how many were made."""
        encoded = submitted.encoded
        calls: tuple[ToolCall, ...] = ()
        if submitted.may_call:
            reader = CallReader()
            reader.add(text)
            reader.end()
            text, calls = reader.text, reader.calls
        answer = self._model.answer(submitted.task, encoded, text, reason)
        usage = Usage(
            prompt_tokens=encoded.length,
            visual_tokens=encoded.visual_tokens,
            completion_tokens=made,
        )
        update = {"usage": usage, "tokens": tuple(tokens) if tokens else None, "calls": calls}
        return answer.model_copy(update=update).with_warnings(submitted.warnings)

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
    rows: list[Row]
    """One for each answer that was asked for."""
    warnings: list[str]
    """What was not read of the images."""
    may_call: bool
    """Whether its text may call functions."""


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
        return row.result("deadline")
