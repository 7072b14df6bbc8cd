"""Decides which rows wait, which run, and which have to leave. Imports no torch.

The scheduler knows rows, blocks, tokens and time, but no images, HTTP, family or device. The scheme
is the iteration-level scheduling of Orca (Yu et al., OSDI 2022): rows join and leave the running
batch between any two steps.
"""

import time
from collections import deque
from dataclasses import dataclass, field

from runners.scheduling.kv_space import KvSpace
from runners.scheduling.prefill_budget import PrefillBudget
from runners.scheduling.row import Row

MAX_SLOWDOWN = 4
"""However slow the device, a step may take this many times as long as the fastest one."""
_NEWEST_WEIGHT = 0.3
"""Weight of the newest step in the moving average of step times."""
_ROWS_PER_RESERVED_BLOCK = 4
"""For so many running rows one block stays free when a row is admitted, so that they can grow."""


@dataclass(frozen=True)
class Slice:
    """Columns of a row that are computed in one prefill."""

    row: Row
    start: int
    end: int

    @property
    def is_last(self) -> bool:
        """Whether the row's next token follows from it."""
        return self.end == self.row.columns


@dataclass
class DroppedRows:
    """The rows that `Scheduler.drop_dead_rows` took out."""

    cancelled: int = 0
    """How many rows were cancelled."""
    late: list[Row] = field(default_factory=list)
    """Rows whose deadline passed while they waited; the caller has to fail them."""


class Scheduler:
    """Holds the queue of waiting rows, those that are prefilled, and the running batch.

    For one thread at a time. First come, first served. The next row is admitted if
    - the KV cache has blocks for its tokens so far, and a few more;
    - the moving average of the time to a running row's next token is at most `step_target`, or
      `MAX_SLOWDOWN` times the fastest step if that is more;
    - there are fewer rows than when memory last ran out (forgotten when all is idle);
    - no row with the same prefix is being prefilled: it waits for that prefix;
    - the rows that are prefilled have fewer tokens left than one prefill takes.
    A row that would be alone is always admitted. Where blocks run out, the youngest row gives its
    blocks back and is the next to be admitted; it keeps the tokens that it has made.
    """

    def __init__(self, step_target: float, space: KvSpace, budget: PrefillBudget) -> None:
        """step_target: seconds."""
        self.waiting: deque[Row] = deque()
        self.prefilling: list[Row] = []
        """Rows that have blocks and no token from them yet, in the order of their admission."""
        self.running: list[Row] = []
        """Rows that get a token in every step."""
        self.preemptions = 0
        """How often a row gave its blocks back."""
        self._space = space
        self._budget = budget
        self._step_target = step_target
        self._max_rows: float = float("inf")
        self._mean_step = 0.0
        self._mean_wait = 0.0
        """Moving average of the time of all forwards in which running rows got a token, with a
        prefill or without."""
        self._fastest_step = float("inf")

    @property
    def is_idle(self) -> bool:
        return not (self.running or self.prefilling or self.waiting)

    @property
    def mean_step(self) -> float:
        """Moving average of the time of a step without a prefill, seconds."""
        return self._mean_step

    @property
    def rows(self) -> list[Row]:
        """Rows that have blocks."""
        return [*self.running, *self.prefilling]

    def add(self, row: Row) -> None:
        """Put a row at the end of the queue."""
        if self.is_idle:
            self._max_rows = float("inf")
        self.waiting.append(row)

    def drop_dead_rows(self) -> DroppedRows:
        """Take out the rows that were cancelled, and those whose deadline passed in the queue.

        A running row checks its deadline itself: the row ends with its next token.
        """
        dropped = DroppedRows()
        for row in self.rows:
            if row.future.cancelled():
                self.leave(row)
                dropped.cancelled += 1
            elif row.deadline.passed and row in self.prefilling:
                self.leave(row)
                dropped.late.append(row)
        kept: deque[Row] = deque()
        for row in self.waiting:
            if row.future.cancelled():
                dropped.cancelled += 1
            elif row.deadline.passed:
                dropped.late.append(row)
            else:
                kept.append(row)
        self.waiting = kept
        return dropped

    def admit(self) -> Row | None:
        """Give blocks to the waiting rows that may be prefilled now.

        Returns a row that would be alone and finds no memory all the same, which stays the next in
        the queue.
        """
        while self.waiting and self._may_admit(self.waiting[0]):
            row = self.waiting[0]
            alone = not self.rows
            reserve = 0 if alone else 1 + len(self.running) // _ROWS_PER_RESERVED_BLOCK
            if not self._space.open(row, reserve, alone):
                return row if alone else None
            self.waiting.popleft()
            row.started = time.monotonic()
            self.prefilling.append(row)
        return None

    def _may_admit(self, row: Row) -> bool:
        rows = len(self.running) + len(self.prefilling)
        if not rows:
            return True
        left = sum(other.columns - other.computed for other in self.prefilling)
        return (
            rows < self._max_rows
            and left < self._budget.tokens(self._mean_step, bool(self.running))
            and self._mean_wait <= max(self._step_target, MAX_SLOWDOWN * self._fastest_step)
            and not self._waits_for_prefix(row)
        )

    def _waits_for_prefix(self, row: Row) -> bool:
        """Whether a row is being prefilled whose prefix or prompt this one can take over."""
        if any(
            other.computed < other.encoded.length - 1
            for other in self.prefilling
            if other in row.siblings
        ):
            return True
        if not row.encoded.prefix_length or not self._space.keeps_prefixes:
            return False
        return any(
            other.computed < other.encoded.prefix_length
            and other.encoded.prefix_key == row.encoded.prefix_key
            for other in self.prefilling
        )

    def rows_without_features(self) -> list[Row]:
        """The next rows whose images have to pass the vision tower, together; mostly none.

        So many that their visual tokens stay within the budget of a prefill, but at least one.
        """
        budget = self._budget.tokens(self._mean_step, bool(self.running))
        rows: list[Row] = []
        for row in self.prefilling:
            if row.lacks_features:
                budget -= row.encoded.visual_tokens
                if rows and budget < 0:
                    break
                rows.append(row)
            elif not rows:
                break  # it can be prefilled first
        return rows

    def next_slices(self) -> list[Slice]:
        """What the next prefill computes: columns of several rows, within the budget of tokens."""
        budget = self._budget.tokens(self._mean_step, bool(self.running))
        slices: list[Slice] = []
        for row in self.prefilling:
            if not budget or row.lacks_features:
                break
            count = min(row.columns - row.computed, budget)
            budget -= count
            slices.append(Slice(row, row.computed, row.computed + count))
        return slices

    def finish_slice(self, done: Slice) -> None:
        """Note that a slice is computed. After its last, a row runs."""
        row = done.row
        row.computed = done.end
        if row.computed >= row.encoded.prefix_length:
            row.features = None
            self._space.keep_prefix(row)
        if done.is_last:
            self.prefilling.remove(row)
            self.running.append(row)

    def make_room(self) -> Row | None:
        """Give every running row a column for its newest token; the youngest rows give way.

        Returns a row that is alone and finds no memory all the same.
        """
        full = [row for row in self.running if not self._space.holds(row)]
        for row in sorted(full, key=lambda row: row.started):
            while row.blocks and not self._space.extend(row, alone=len(self.rows) == 1):
                if len(self.rows) == 1:
                    return row
                self.preempt_youngest()
        return None

    def preempt_youngest(self) -> None:
        """Take the blocks of the row that started last; it is the next to be admitted."""
        row = max(self.rows, key=lambda row: row.started)
        self.leave(row)
        self.waiting.appendleft(row)
        self.preemptions += 1

    def limit_rows(self) -> None:
        """From now on have no more rows than now, until all is idle: memory ran out."""
        self._max_rows = max(len(self.rows), 1)

    def leave(self, row: Row) -> None:
        """Take a row out, wherever it is, and its blocks back."""
        for rows in (self.running, self.prefilling, self.waiting):
            if row in rows:
                rows.remove(row)
        self._space.close(row)
        row.features = None

    def record_step(self, seconds: float) -> None:
        """Take the time of a step into account."""
        self._fastest_step = min(self._fastest_step, seconds)
        self._mean_step += _NEWEST_WEIGHT * (seconds - self._mean_step)
        self._mean_wait += _NEWEST_WEIGHT * (seconds - self._mean_wait)

    def record_prefill(self, tokens: int, seconds: float, beside_rows: bool) -> None:
        """Take the time of a prefill into account. beside_rows: whether running rows got a token in
        the same forward."""
        self._budget.record(tokens, seconds)
        if beside_rows:
            self._mean_wait += _NEWEST_WEIGHT * (seconds - self._mean_wait)

    def clear(self) -> list[Row]:
        """Take out all rows, those that run first."""
        held = self.rows
        for row in held:
            self.leave(row)
        rows = [*held, *self.waiting]
        self.waiting.clear()
        return rows
