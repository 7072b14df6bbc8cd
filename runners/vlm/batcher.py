"""In-flight adaptive batching: rows join and leave the running batch at every token.

Knows rows, tokens and time; no image, no HTTP, no family. The scheme is the iteration-level
scheduling of Orca (Yu et al., OSDI 2022).
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import FinishReason
from runners import torch_errors
from runners.metrics import Metrics
from runners.vlm.interface import Encoded, Vlm
from runners.vlm.kv_cache import RowCache
from runners.vlm.repetition import Repetition
from runners.vlm.sampling import GREEDY, Sampling, make_draws, next_tokens

log = logging.getLogger(__name__)

SLOWDOWN = 4
"""A step may always take this many times a lone row's, however slow the device."""
_NEWEST = 0.3
"""Weight of the newest step in the moving average."""


@dataclass(frozen=True)
class Finished:
    tokens: list[int]
    """Without the stop token; of a loop, its first period only."""
    reason: FinishReason


@dataclass(eq=False)
class Row:
    """One request on its way through the batcher. Cancel it by cancelling its future."""

    encoded: Encoded
    max_new_tokens: int
    deadline: Deadline
    """Past it a row that waits is refused, one in flight ends as it is."""
    sampling: Sampling = GREEDY
    on_token: Callable[[int], object] | None = None
    """Called in the batcher's thread with every token but the stop token; must not raise."""
    future: Future[Finished] = field(default_factory=Future)
    """Ends exactly once: with the result, a `Refusal`, or the exception of the model."""

    tokens: list[int] = field(default_factory=list, init=False)
    repetition: Repetition = field(init=False)
    first_position: int = field(default=0, init=False)
    submitted: float = field(default_factory=time.monotonic, init=False)
    started: float = field(default=0.0, init=False)
    prefills: int = field(default=0, init=False)
    """Tried, one of which is enough where memory does not run out."""

    def __post_init__(self) -> None:
        self.repetition = Repetition(self.max_new_tokens)

    @property
    def position(self) -> int:
        """Position index of the newest token."""
        return self.first_position + len(self.tokens) - 1

    @property
    def longest(self) -> int:
        """Columns that the row may come to need."""
        return self.encoded.length + self.max_new_tokens

    def take(self, token: int, stop_tokens: frozenset[int]) -> FinishReason | None:
        """Append a token; the reason where it is the last."""
        if token in stop_tokens:
            return "stop"
        self.tokens.append(token)
        if self.on_token is not None:
            self.on_token(token)
        kept = self.repetition.add(token)
        if kept is not None:
            del self.tokens[kept:]
            return "repetition"
        if len(self.tokens) == self.max_new_tokens:
            return "length"
        return "deadline" if self.deadline.passed else None


class Batcher:
    """Decodes rows together, in a thread of its own once `start` was called.

    First come, first served. A row is admitted while
    - the KV cache, were every row to use all its new tokens, stays within `kv_budget`, so that no
      row is thrown out for another's growth unless somebody else takes the memory meanwhile;
    - the moving average of a step stays under `step_target` (seconds), or `SLOWDOWN` lone ones';
    - there are fewer rows than when memory last ran out (until the batcher is idle again).
    A lone row is always admitted. Rows in flight wait for one prefill at most between two steps.

    Where memory runs out, what is kept for reuse is given up. A row whose prefill it was waits
    until another has left, and fails when it is alone; of a step the youngest row fails, and the
    step is repeated with the others. Any other error of the model fails the rows it was working on,
    and the batcher goes on; on a device that is broken for good it ends its process.
    """

    def __init__(
        self,
        model: Vlm,
        metrics: Metrics,
        kv_budget: Callable[[int], int],
        step_target: float,
        cache: RowCache | None = None,
    ) -> None:
        """kv_budget: bytes that the KV cache may come to now, of the bytes that it holds."""
        self._model = model
        self._metrics = metrics
        self._kv_budget = kv_budget
        self._step_target = step_target
        self._cache = RowCache() if cache is None else cache  # an empty one is false
        self._rows: list[Row] = []
        """In the order of the cache's rows."""
        self._waiting: deque[Row] = deque()
        self._ceiling: float = float("inf")
        self._step_seconds = 0.0
        self._fastest_step = float("inf")
        self._inbox: deque[Row] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    @property
    def in_flight(self) -> int:
        return len(self._rows)

    @property
    def kv_bytes(self) -> int:
        return self._cache.held_bytes

    @property
    def is_alive(self) -> bool:
        """False once closed, or dead of a fault of its own; then every row is refused."""
        return self._thread.is_alive() and not self._closed

    def start(self) -> None:
        self._thread.start()

    def submit(self, row: Row) -> None:
        """Queue a row, from any thread."""
        with self._wake:
            if not self._closed:
                self._inbox.append(row)
                self._wake.notify()
                return
        self._fail(row, _unloaded())

    def close(self) -> None:
        """Refuse the rows that wait or are in flight; returns when the thread has ended."""
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
            log.exception("The batcher has died")
            error = fault
            if torch_errors.is_broken_device(fault):
                torch_errors.end_process()
        finally:
            self._abandon(error)

    @torch.inference_mode()
    def step(self) -> bool:
        """One prefill at most, and one token for every row in flight; False where all is idle."""
        self._sweep()
        if self._may_admit():
            self._prefill(self._waiting.popleft())
            self._metrics.reuse(self._model.reuse_stats)
        if self._rows:
            self._decode()
        busy = bool(self._rows or self._waiting)
        if not busy:
            self._cache.release()
            self._ceiling = float("inf")
        self._metrics.rows.set(len(self._rows))
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.kv_bytes.set(self._cache.held_bytes)
        return busy

    def _sweep(self) -> None:
        """Take in the newcomers, let the cancelled go, refuse those that waited too long."""
        with self._wake:
            self._waiting.extend(self._inbox)
            self._inbox.clear()
        for index in reversed(range(len(self._rows))):
            if self._rows[index].future.cancelled():
                self._leave(index)
                self._metrics.ended("cancelled")
        kept: deque[Row] = deque()
        for row in self._waiting:
            if row.future.cancelled():
                self._metrics.ended("cancelled")
            elif row.deadline.passed:
                self._fail(row, row.deadline.refusal("The time limit passed in the queue."))
            else:
                kept.append(row)
        self._waiting = kept

    def _may_admit(self) -> bool:
        if not self._waiting or not self._rows:
            return bool(self._waiting)
        rows = [*self._rows, self._waiting[0]]
        return (
            len(rows) <= self._ceiling
            and self._step_seconds <= max(self._step_target, SLOWDOWN * self._fastest_step)
            and self._cache.bytes_for(len(rows), max(row.longest for row in rows))
            <= self._kv_budget(self._cache.held_bytes)
        )

    def _prefill(self, row: Row) -> None:
        row.started = time.monotonic()
        row.prefills += 1
        try:
            draws = make_draws([(row.sampling, 0)], self._model.device)
            prefilled = self._model.prefill(row.encoded)
            row.first_position = prefilled.next_position
            token = int(next_tokens(prefilled.logits[None], draws))
            self._cache.join(prefilled.layers)
        except Exception as error:
            if not torch_errors.is_out_of_memory(error):
                self._fail(row, error)
                if torch_errors.is_broken_device(error):
                    raise
                return
        else:
            now = time.monotonic()
            self._metrics.prefill_seconds.observe(now - row.started)
            self._metrics.first_token_seconds.observe(now - row.submitted)
            self._rows.append(row)
            self._take(len(self._rows) - 1, token)
            return
        # Only here has the error let go of the tensors of its frames.
        self._shrink()
        if self._rows or row.prefills == 1:
            self._waiting.appendleft(row)
        else:
            self._fail(row, torch_errors.out_of_memory())

    def _decode(self) -> None:
        while self._rows:
            started = time.monotonic()
            try:
                tokens = self._forward()
            except Exception as error:
                if not torch_errors.is_out_of_memory(error):
                    while self._rows:
                        self._fail(self._leave(len(self._rows) - 1), error)
                    if torch_errors.is_broken_device(error):
                        raise
                    return
            else:
                self._time(time.monotonic() - started)
                self._cache.advance()
                for index in reversed(range(len(tokens))):
                    self._take(index, tokens[index])
                return
            # Only here has the error let go of the tensors of its frames.
            self._evict()

    def _forward(self) -> list[int]:
        device = self._model.device
        draws = make_draws([(row.sampling, len(row.tokens)) for row in self._rows], device)
        tokens, positions = torch.tensor(
            [[row.tokens[-1] for row in self._rows], [row.position for row in self._rows]]
        ).to(device, non_blocking=True)
        mask = self._cache.open()
        logits = self._model.decode(tokens, positions, mask, self._cache)
        chosen: list[int] = next_tokens(logits, draws).tolist()
        return chosen

    def _evict(self) -> None:
        youngest = max(range(len(self._rows)), key=lambda index: self._rows[index].started)
        self._fail(self._leave(youngest), torch_errors.out_of_memory())
        self._metrics.evicted.inc()
        self._shrink()

    def _shrink(self) -> None:
        """Take no more memory than now, and give up what can be."""
        self._ceiling = max(len(self._rows), 1)
        self._model.forget()

    def _time(self, seconds: float) -> None:
        self._metrics.step_seconds.observe(seconds)
        self._fastest_step = min(self._fastest_step, seconds)
        self._step_seconds += _NEWEST * (seconds - self._step_seconds)

    def _take(self, index: int, token: int) -> None:
        row = self._rows[index]
        reason = row.take(token, self._model.stop_tokens)
        if reason != "stop":
            self._metrics.tokens.inc()
        if reason is not None:
            self._leave(index)
            self._metrics.ended(reason)
            with suppress(InvalidStateError):  # cancelled meanwhile
                row.future.set_result(Finished(row.tokens, reason))

    def _leave(self, index: int) -> Row:
        """Take a row out of the batch; the last row takes its index, as in the cache."""
        self._cache.leave(index)
        row = self._rows[index]
        self._rows[index] = self._rows[-1]
        self._rows.pop()
        return row

    def _fail(self, row: Row, error: Exception) -> None:
        if not isinstance(error, Refusal):
            log.error("A row failed", exc_info=error)
        self._metrics.ended("failed")
        with suppress(InvalidStateError):
            row.future.set_exception(error)

    def _abandon(self, error: Exception) -> None:
        with self._wake:
            self._closed = True
            rows = [*self._rows, *self._waiting, *self._inbox]
            for queue in (self._rows, self._waiting, self._inbox):
                queue.clear()
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
