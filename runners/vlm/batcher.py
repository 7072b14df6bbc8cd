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
from typing import TypeVar

import torch

from common.failures import ErrorCode, Refusal
from runners import torch_errors
from runners.metrics import Metrics
from runners.vlm.interface import Vlm
from runners.vlm.kv_cache import KvCache
from runners.vlm.row import Finished, Row
from runners.vlm.sampling import NO_TOKEN, make_draws, next_tokens
from runners.vlm.scheduler import Scheduler

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class OutOfMemory(Exception):
    """Raised if the device's memory ran out, in place of PyTorch's errors."""


class Batcher:
    """The decode loop: prefills one row at most, then makes one token for every running row.

    Which rows those are, `Scheduler` decides. If memory runs out, the model forgets what it keeps
    for reuse, and fewer rows are admitted from then on. In a prefill, the row goes back to the
    queue, and fails if memory runs out once more while no other row runs; in a step, the newest row
    fails, and the step is repeated with the others. Any other error of the model fails the rows it
    was raised for, and the batcher goes on; logits that are not numbers fail their row alone. On a
    device that is broken for good it ends its process.
    """

    def __init__(
        self,
        model: Vlm,
        metrics: Metrics,
        kv_budget: Callable[[int], int],
        step_target: float,
        cache: KvCache | None = None,
    ) -> None:
        """kv_budget: takes how many bytes the KV cache holds, returns how many it may hold now.
        step_target: seconds that a step should take at most, see `Scheduler`."""
        self._model = model
        self._metrics = metrics
        self._kv_budget = kv_budget
        self._cache = KvCache() if cache is None else cache  # an empty one is false
        self._scheduler = Scheduler(step_target, self._fits)
        self._inbox: deque[Row] = deque()
        """Rows that other threads submitted since the last step."""
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    @property
    def running_rows(self) -> int:
        """Rows that run."""
        return len(self._scheduler.running)

    @property
    def kv_bytes(self) -> int:
        return self._cache.held_bytes

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
        try:
            while not self._closed:
                if not self.step():
                    with self._wake:
                        self._wake.wait_for(lambda: self._inbox or self._closed)
        except Exception as fault:
            logger.exception("The batcher has died")
            error = fault
            if torch_errors.is_broken_device(fault):
                end_process()
        finally:
            self._abandon(error)

    @torch.inference_mode()
    def step(self) -> bool:
        """Prefills one row at most, then makes one token for every running row.

        Returns False if nothing is left to do.
        """
        self._update_queue()
        row = self._scheduler.admit()
        if row is not None:
            self._prefill(row)
            self._metrics.record_reuse(self._model.reuse_stats)
        if self._scheduler.running:
            self._decode()
        if self._scheduler.is_idle:
            self._cache.release()
        self._metrics.rows.set(len(self._scheduler.running))
        self._metrics.waiting.set(len(self._scheduler.waiting))
        self._metrics.kv_bytes.set(self._cache.held_bytes)
        return not self._scheduler.is_idle

    def _update_queue(self) -> None:
        """Queues the rows that were submitted, and drops those that are cancelled or too late."""
        with self._wake:
            for row in self._inbox:
                self._scheduler.add(row)
            self._inbox.clear()
        dropped = self._scheduler.drop_dead_rows()
        for slot in dropped.cancelled_slots:
            self._cache.leave(slot)
        for _ in range(len(dropped.cancelled_slots) + dropped.cancelled_waiting):
            self._metrics.count_ended("cancelled")
        for row in dropped.late:
            self._fail(row, row.deadline.refusal("The time limit passed in the queue."))

    def _fits(self, rows: int, columns: int) -> bool:
        budget = self._kv_budget(self._cache.held_bytes)
        return self._cache.bytes_for(rows, columns) <= budget

    def _prefill(self, row: Row) -> None:
        try:
            token = self._attempt(lambda: self._first_token(row))
        except OutOfMemory:
            if not self._scheduler.postpone(row):
                self._fail(row, _out_of_memory())
        except Exception as error:
            self._fail_all([row], error)
        else:
            slot = self._scheduler.join(row)
            now = time.monotonic()
            self._metrics.prefill_seconds.observe(now - row.started)
            self._metrics.first_token_seconds.observe(now - row.submitted)
            self._take(slot, token)

    def _decode(self) -> None:
        while self._scheduler.running:
            started = time.monotonic()
            try:
                tokens = self._attempt(lambda: self._next_tokens(self._scheduler.running))
            except OutOfMemory:
                slot, row = self._scheduler.drop_newest()
                self._cache.leave(slot)
                self._fail(row, _out_of_memory())
                self._metrics.evicted.inc()
            except Exception as error:
                slots = reversed(range(len(self._scheduler.running)))
                self._fail_all([self._leave(slot) for slot in slots], error)
            else:
                seconds = time.monotonic() - started
                self._scheduler.record_step(seconds)
                self._metrics.step_seconds.observe(seconds)
                self._cache.end_step()
                for slot in reversed(range(len(tokens))):  # a row that leaves moves a later one
                    self._take(slot, tokens[slot])
                return

    def _attempt(self, compute: Callable[[], Result]) -> Result:
        """Returns the result of a computation on the device.

        If memory runs out, the model forgets what it keeps for reuse, and `OutOfMemory` is raised.
        All other errors are raised as they are.
        """
        try:
            return compute()
        except Exception as error:
            if not torch_errors.is_out_of_memory(error):
                raise
        # Handled after the except block, because the exception's frames keep tensors alive.
        self._model.forget()
        raise OutOfMemory

    def _first_token(self, row: Row) -> int:
        """Prefills a row, and copies its prompt into the KV cache."""
        draws = make_draws([(row.sampling, 0)], self._model.device)
        prefilled = self._model.prefill(row.encoded)
        row.first_position = prefilled.next_position
        token = int(next_tokens(prefilled.logits[None], draws))
        if token == NO_TOKEN:
            raise _no_number()
        self._cache.join(prefilled.layers)
        return token

    def _next_tokens(self, rows: list[Row]) -> list[int]:
        """Runs a step. Returns the next token of each row."""
        device = self._model.device
        draws = make_draws([(row.sampling, len(row.tokens)) for row in rows], device)
        tokens, positions = torch.tensor(
            [[row.tokens[-1] for row in rows], [row.position for row in rows]]
        ).to(device, non_blocking=True)
        mask = self._cache.begin_step()
        logits = self._model.decode(tokens, positions, mask, self._cache)
        made: list[int] = next_tokens(logits, draws).tolist()
        return made

    def _take(self, slot: int, token: int) -> None:
        if token == NO_TOKEN:
            self._fail(self._leave(slot), _no_number())
            return
        row = self._scheduler.running[slot]
        reason = row.take(token, self._model.stop_tokens)
        if reason != "stop":
            self._metrics.tokens.inc()
        if reason is not None:
            self._leave(slot)
            self._metrics.count_ended(reason)
            with suppress(InvalidStateError):  # cancelled meanwhile
                row.future.set_result(Finished(row.tokens, reason))

    def _leave(self, slot: int) -> Row:
        self._cache.leave(slot)
        return self._scheduler.leave(slot)

    def _fail(self, row: Row, error: Exception) -> None:
        if not isinstance(error, Refusal):
            logger.error("A row failed", exc_info=error)
        self._metrics.count_ended("failed")
        with suppress(InvalidStateError):  # cancelled meanwhile
            row.future.set_exception(error)

    def _fail_all(self, rows: list[Row], error: Exception) -> None:
        """Fails the rows for which an error was raised; raises it if the device is broken."""
        for row in rows:
            self._fail(row, error)
        if torch_errors.is_broken_device(error):
            raise error

    def _abandon(self, error: Exception) -> None:
        with self._wake:
            self._closed = True
            rows = [*self._scheduler.clear(), *self._inbox]
            self._inbox.clear()
        self._cache.release()
        for row in rows:
            self._fail(row, error)
        for gauge in (self._metrics.rows, self._metrics.waiting, self._metrics.kv_bytes):
            gauge.set(0)


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
