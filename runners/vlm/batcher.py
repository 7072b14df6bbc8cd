"""Runs rows together on the device, in a thread of its own, as the scheduler decides.

Knows rows, tokens and errors of the device; no image, no HTTP, no family.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextlib import suppress
from typing import TypeVar, cast

import torch

from common.failures import ErrorCode, Refusal
from common.messages import FinishReason
from runners import torch_errors, torch_threads
from runners.constraints.guide import Guide, too_complex
from runners.constraints.masks import MaskMaker
from runners.decoder.part import Part
from runners.metrics import Metrics
from runners.sampling.sampler import NO_TOKEN, Choices, Chosen, Sampler, choose
from runners.scheduling.kv_space import KvSpace
from runners.scheduling.prefill_budget import PrefillBudget
from runners.scheduling.row import Row
from runners.scheduling.scheduler import Scheduler, Slice
from runners.vlm.interface import Encoded, Features, RowPart, Vlm

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
"""A token, and its log probabilities if its row wants them."""


IDLE_SECONDS = 10.0
"""After so long without a row, free blocks go back to the device. Not at once: a GPU's graphs have
to be captured anew afterwards."""
_AIM = 0.75
"""Share of the token gap after which a step is made: the next operation may take longer than those
before it."""
_PAUSE_KEPT = 0.95
"""What is kept of `Batcher._pause` at each question."""


class Batcher:
    """The decode loop: makes a token for every running row, and prefills what waits beside them.

    Which rows those are, `Scheduler` decides. If memory runs out, what is kept for reuse is given
    up, fewer rows are admitted from then on, and the youngest row gives its blocks back, waits, and
    goes on later where it was; a row that is alone fails at the second time. Any other error of the
    model fails the rows that were prefilled, or those that ran if none were, and the batcher goes
    on; logits that are not numbers fail their row alone. On a device that is broken for good it
    ends its process.
    """

    def __init__(
        self,
        model: Vlm,
        metrics: Metrics,
        kv_budget: Callable[[int], int],
        step_target: float,
        token_gap: float,
        after_tokens: Callable[[], object] = lambda: None,
    ) -> None:
        """kv_budget: takes how many bytes the KV cache holds, returns how many it may hold now.
        step_target: seconds that a step should take at most, see `Scheduler`. token_gap: seconds
        for which a prefill may hold up rows in flight, see `PrefillBudget`. after_tokens: called
        in the batcher's thread when the tokens of a step were handed to `Row.on_token`, before any
        row ends."""
        self._model = model
        self._metrics = metrics
        self._token_gap = token_gap
        self._after_tokens = after_tokens
        pool = model.pool
        self._space = KvSpace(
            pool,
            limit=lambda: kv_budget(pool.held_bytes) // pool.bytes_per_block,
            kept_limit=model.prefix_bytes // pool.bytes_per_block,
        )
        budget = PrefillBudget(token_gap, model.most_tokens)
        self._scheduler = Scheduler(step_target, self._space, budget)
        self._masks = MaskMaker(model.device)
        self._sampler = Sampler(model.device, model.stop_tokens)
        self._captures = 0
        """`Vlm.captures` after the last step."""
        self._last_step = 0.0
        """When the last decode step ended, in seconds of `time.monotonic`."""
        self._asked = 0.0
        """When the vision tower last asked whether a step is due."""
        self._pause = 0.0
        """The longest time between two such questions lately, seconds."""
        self._inbox: deque[Row] = deque()
        """Rows that other threads submitted since the last step."""
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    @property
    def running_rows(self) -> int:
        """Rows that run, or are being prefilled."""
        return len(self._scheduler.rows)

    @property
    def preemptions(self) -> int:
        """How often a row gave its memory back and waited."""
        return self._scheduler.preemptions

    @property
    def kv_bytes(self) -> int:
        """Bytes that the KV cache holds, prefixes that are kept between requests included."""
        return self._model.pool.held_bytes

    @property
    def is_alive(self) -> bool:
        """False once it is closed, or after a fault of its own; every row is refused then."""
        return self._thread.is_alive() and not self._closed

    def start(self) -> None:
        self._thread.start()

    def submit(self, row: Row) -> None:
        """Queues a row, from any thread."""
        with self._wake:
            if not self._closed:
                self._inbox.append(row)
                self._wake.notify()
                return
        self._fail(row, _unloaded())

    def close(self) -> None:
        """Refuses all rows, waiting and running; returns when the thread has ended."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        else:
            self._abandon(_unloaded())

    def _run(self) -> None:
        error: Exception = _unloaded()
        torch_threads.use_all_cores()
        if self._model.device.type == "cuda":
            torch.cuda.set_device(self._model.device)
        try:
            while not self._closed:
                if not self.step():
                    self._wait_for_rows()
        except Exception as fault:
            logger.exception("The batcher has died")
            error = fault
            if torch_errors.is_broken_device(fault):
                end_process()
        finally:
            self._abandon(error)

    def _wait_for_rows(self) -> None:
        """Wait for a row. After a while without any, free memory goes back to the device."""
        with self._wake:
            if self._wake.wait_for(lambda: self._inbox or self._closed, IDLE_SECONDS):
                return
        self.shrink()
        with self._wake:
            self._wake.wait_for(lambda: self._inbox or self._closed)

    @torch.inference_mode()
    def step(self) -> bool:
        """Prefill what waits, within bounds, and make one token for every running row.

        Returns False if nothing is left to do.
        """
        self._update_queue()
        while stuck := self._scheduler.admit():
            self._run_short(stuck)
        if rows := self._scheduler.rows_without_features():
            self._run_tower(rows)
            self._advance(prefill=False)
        else:
            self._advance(prefill=True)
        if is_idle := self._scheduler.is_idle:
            self._update_metrics()
        return not is_idle

    @torch.inference_mode()
    def shrink(self) -> None:
        """Give the memory of free blocks back to the device. No row may be there."""
        self._space.shrink()
        self._sampler.forget()
        self._model.release_buffers()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._update_metrics()

    def _update_queue(self) -> None:
        """Queues the rows that were submitted, and drops those that are cancelled or too late."""
        with self._wake:
            for row in self._inbox:
                self._scheduler.add(row)
            self._inbox.clear()
        dropped = self._scheduler.drop_dead_rows()
        for _ in range(dropped.cancelled):
            self._metrics.count_ended("cancelled")
        for row in dropped.late:
            if row.tokens:
                self._finish(row, "deadline")
            else:
                self._fail(row, row.deadline.refusal("The time limit passed in the queue."))

    def _run_tower(self, rows: list[Row]) -> None:
        """Runs the vision tower for rows, and a step between its layers whenever one is due."""
        started = time.monotonic()
        for row, features in zip(rows, self._attempt(rows, self._features_of) or (), strict=False):
            row.features = features
        self._metrics.vision_seconds.observe(time.monotonic() - started)

    def _features_of(self, rows: list[Row]) -> list[Features]:
        between = self._step_if_due if self._scheduler.running else None
        self._asked, self._pause = time.monotonic(), 0.0
        return self._model.encode_images([cast(Encoded, row.encoded) for row in rows], between)

    def _step_if_due(self) -> None:
        """Makes a step, which ends a step's time later, if the next call may come too late."""
        now = time.monotonic()
        self._pause = max(now - self._asked, _PAUSE_KEPT * self._pause)
        due = _AIM * self._token_gap - self._scheduler.mean_step
        if now - self._last_step + self._pause > due:
            self._advance(prefill=False)
            now = time.monotonic()
        self._asked = now

    def _advance(self, prefill: bool) -> None:
        """Makes a token for every running row; where there is no memory for all, the youngest give
        way. If asked to, it computes slices of prompts in the same forward.
        """
        while stuck := self._scheduler.make_room():
            self._run_short(stuck)
        slices = self._scheduler.next_slices() if prefill else []
        running = list(self._scheduler.running)
        rows = [one.row for one in slices] or running
        if not rows:
            return
        started = time.monotonic()
        # If it fails, that is because of a prompt, if there is one: running rows try again.
        chosen = self._attempt(rows, lambda _: self._next_tokens(slices, running))
        if chosen is None:
            return
        self._update_metrics()  # while a GPU computes; reading the tokens waits for it
        tokens = self._attempt(rows, lambda _: chosen.read())
        self._last_step = time.monotonic()
        if tokens is None:
            return
        self._record_time(slices, running, self._last_step - started)
        made: list[tuple[Row, Chosen]] = []
        for done, token in zip(slices, tokens, strict=False):
            self._scheduler.finish_slice(done)
            if done.is_last:
                if not done.row.tokens:
                    waited = self._last_step - done.row.submitted
                    self._metrics.first_token_seconds.observe(waited)
                made.append((done.row, token))
        for row, token in zip(running, tokens[len(slices) :], strict=True):
            row.computed = row.columns
            row.failures = 0
            made.append((row, token))
        self._take(made)

    def _next_tokens(self, slices: list[Slice], running: list[Row]) -> Choices:
        """Starts a forward. Returns the token that follows each slice, and each running row."""
        parts = [(one.row, one.start, one.end) for one in slices]
        parts += [(row, row.columns - 1, row.columns) for row in running]
        draws = self._sampler.prepare([row for row, _, _ in parts])
        # A slice that is not the last of its prompt makes no token.
        guides = [_guide_of(one.row) if one.is_last else None for one in slices]
        masks = self._masks.make(guides + [_guide_of(row) for row in running])
        forward = self._model.prefill if slices else self._model.decode
        return choose(forward([_part_of(*part) for part in parts]), draws, masks)

    def _record_time(self, slices: list[Slice], running: list[Row], seconds: float) -> None:
        if slices:
            count = sum(one.end - one.start for one in slices)
            self._scheduler.record_prefill(count, seconds, beside_rows=bool(running))
            self._metrics.prefill_seconds.observe(seconds)
        else:
            if self._model.captures == self._captures:  # otherwise the next steps are faster
                self._scheduler.record_step(seconds)
            self._captures = self._model.captures
            self._metrics.step_seconds.observe(seconds)

    def _attempt(self, rows: list[Row], compute: Callable[[list[Row]], Result]) -> Result | None:
        """Returns the result of a computation on the device for rows, or None if it failed.

        If memory ran out, what is kept for reuse is given up, and the youngest row gives way; see
        `_run_short` for a row that was alone. Any other error fails the rows.
        """
        try:
            return compute(rows)
        except Exception as error:
            if not torch_errors.is_out_of_memory(error):
                self._fail_all(rows, error)
                return None
        # Handled after the except block, because the exception's frames keep tensors alive.
        self._model.forget()
        self._space.forget()
        self._sampler.forget()
        held = self._scheduler.rows
        if len(held) == 1 and held[0] in rows:
            self._run_short(held[0])
        # Steps between the layers of the tower may have taken the blocks of all rows meanwhile.
        if self._scheduler.rows:
            self._scheduler.preempt_youngest()
        self._scheduler.limit_rows()
        return None

    def _run_short(self, row: Row) -> None:
        """Deals with a row that is alone and found no memory: it fails at the second time.

        Before that, what is kept for reuse is given up.
        """
        self._model.forget()
        row.failures += 1
        if row.failures > 1:
            self._scheduler.leave(row)
            self._fail(row, _out_of_memory())

    def _take(self, made: list[tuple[Row, Chosen]]) -> None:
        """Append to each row the token that was made for it; some rows end with it."""
        ended: list[tuple[Row, FinishReason | None]] = []
        ends = self._model.stop_tokens, self._model.text
        for row, (token, logprobs) in made:
            reason = None
            guide = _guide_of(row)
            if (
                token == NO_TOKEN
                or (guide is not None and guide.has_failed)
                or (reason := row.take(token, logprobs, *ends))
            ):
                ended.append((row, reason))
        self._metrics.tokens.inc(len(made) - sum(reason in (None, "stop") for _, reason in ended))
        self._after_tokens()
        for row, reason in ended:
            self._scheduler.leave(row)
            if reason is None:
                guide = _guide_of(row)
                failed = guide is not None and guide.has_failed
                self._fail(row, too_complex() if failed else _no_number())
            else:
                self._finish(row, reason)

    def _finish(self, row: Row, reason: FinishReason) -> None:
        self._metrics.count_ended(reason)
        with suppress(InvalidStateError):  # cancelled meanwhile
            row.future.set_result(row.result(reason))

    def _fail(self, row: Row, error: Exception) -> None:
        if not isinstance(error, Refusal):
            logger.error("A row failed", exc_info=error)
        self._metrics.count_ended("failed")
        with suppress(InvalidStateError):  # cancelled meanwhile
            row.future.set_exception(error)

    def _fail_all(self, rows: list[Row], error: Exception) -> None:
        """Fails the rows for which an error was raised; raises it if the device is broken."""
        for row in rows:
            self._scheduler.leave(row)
            self._fail(row, error)
        if torch_errors.is_broken_device(error):
            raise error

    def _update_metrics(self) -> None:
        scheduler, metrics = self._scheduler, self._metrics
        prefixes = self._space.stats | {
            "bytes": self._space.kept * self._model.pool.bytes_per_block
        }
        metrics.record_reuse(self._model.reuse_stats | {"prefixes": prefixes})
        metrics.record_preemptions(scheduler.preemptions)
        metrics.rows.set(len(scheduler.rows))
        metrics.waiting.set(len(scheduler.waiting))
        metrics.kv_bytes.set(self.kv_bytes)

    def _abandon(self, error: Exception) -> None:
        with self._wake:
            self._closed = True
            rows = [*self._scheduler.clear(), *self._inbox]
            self._inbox.clear()
        for row in rows:
            self._fail(row, error)
        self._space.forget()
        self._space.shrink()
        for gauge in (self._metrics.rows, self._metrics.waiting, self._metrics.kv_bytes):
            gauge.set(0)


def _part_of(row: Row, start: int, end: int) -> RowPart:
    return RowPart(
        cast(Encoded, row.encoded),
        row.tokens,
        Part(row.blocks, start, end - start),
        cast("Features | None", row.features),
    )


def _guide_of(row: Row) -> Guide | None:
    return cast("Guide | None", row.guide)


def _unloaded() -> Refusal:
    return Refusal(
        ErrorCode.UNAVAILABLE,
        "The model was unloaded before the answer was complete.",
        retry_after=1,
    )


def _out_of_memory() -> Refusal:
    return Refusal(
        ErrorCode.OUT_OF_MEMORY,
        "The device ran out of memory: try again later, or send a smaller image.",
        retry_after=5,
    )


def _no_number() -> Refusal:
    return Refusal(
        ErrorCode.FAULT,
        "The model computed values that are not numbers. If its data type is float16, set "
        "CHATVLM_DTYPE to bfloat16 or float32.",
    )


def end_process() -> None:
    """Ends this process at once, because only a new one can use a broken device again.

    The gateway answers its requests, and BentoML starts a new process.
    """
    os._exit(1)
