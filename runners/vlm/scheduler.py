"""Decides which rows wait, which run, and which have to leave. Imports no torch.

The scheduler knows rows, tokens and time, but no images, HTTP, family or device. The scheme is the
iteration-level scheduling of Orca (Yu et al., OSDI 2022): rows join and leave the running batch
between any two steps.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runners.vlm.row import Row

MAX_SLOWDOWN = 4
"""However slow the device, a step may take this many times as long as the fastest one."""
_NEWEST_WEIGHT = 0.3
"""Weight of the newest step in the moving average of step times."""


@dataclass
class DroppedRows:
    """The rows that `Scheduler.drop_dead_rows` took out."""

    cancelled_slots: list[int] = field(default_factory=list)
    """Slots of the running rows that were cancelled, in the order in which `leave` freed them."""
    cancelled_waiting: int = 0
    """How many waiting rows were cancelled."""
    late: list[Row] = field(default_factory=list)
    """Rows whose deadline passed while they waited; the caller has to fail them."""


class Scheduler:
    """Holds the queue of waiting rows and the running batch. For one thread at a time.

    First come, first served. The next row is admitted if
    - the KV cache has space for all rows even if each uses all its new tokens, so that no row has
      to leave because another one grows (it may still have to if another process takes the memory);
    - the moving average of a step's time is at most `step_target`, or `MAX_SLOWDOWN` times the
      fastest step if that is more;
    - there are fewer running rows than when memory last ran out (forgotten when all is idle).
    A row that would run alone is always admitted.
    """

    def __init__(self, step_target: float, fits: Callable[[int, int], bool]) -> None:
        """step_target: seconds. fits: whether the KV cache has space for so many rows, the longest
        of which has so many columns."""
        self.waiting: deque[Row] = deque()
        self.running: list[Row] = []
        """The index of a row is its slot in the KV cache."""
        self._step_target = step_target
        self._fits = fits
        self._max_rows: float = float("inf")
        self._mean_step = 0.0
        self._fastest_step = float("inf")

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.waiting

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
        for slot in reversed(range(len(self.running))):
            if self.running[slot].future.cancelled():
                self.leave(slot)
                dropped.cancelled_slots.append(slot)
        kept: deque[Row] = deque()
        for row in self.waiting:
            if row.future.cancelled():
                dropped.cancelled_waiting += 1
            elif row.deadline.passed:
                dropped.late.append(row)
            else:
                kept.append(row)
        self.waiting = kept
        return dropped

    def admit(self) -> Row | None:
        """Take the next row out of the queue, to be prefilled, if it may run now.

        The caller then calls `join`, or `postpone` if memory ran out in the prefill.
        """
        if not self.waiting or not self._may_admit(self.waiting[0]):
            return None
        row = self.waiting.popleft()
        row.started = time.monotonic()
        row.prefills += 1
        return row

    def _may_admit(self, row: Row) -> bool:
        if not self.running:
            return True
        rows = [*self.running, row]
        return (
            len(rows) <= self._max_rows
            and self._mean_step <= max(self._step_target, MAX_SLOWDOWN * self._fastest_step)
            and self._fits(len(rows), max(row.max_columns for row in rows))
        )

    def join(self, row: Row) -> int:
        """Add a prefilled row to the batch. Returns its slot, which is the one after the last."""
        self.running.append(row)
        return len(self.running) - 1

    def leave(self, slot: int) -> Row:
        """Take a row out of the batch; the last row moves into its slot, as in the KV cache."""
        row = self.running[slot]
        self.running[slot] = self.running[-1]
        self.running.pop()
        return row

    def postpone(self, row: Row) -> bool:
        """Put a row back at the head of the queue, as memory ran out in its prefill.

        Returns False, and does not queue the row, if no other row runs and this was not its first
        prefill. From then on, no more rows are admitted than run now.
        """
        self._limit_rows()
        if not self.running and row.prefills > 1:
            return False
        self.waiting.appendleft(row)
        return True

    def drop_newest(self) -> tuple[int, Row]:
        """Take out the row that started last, as memory ran out in a step. Returns its slot and it.

        From then on, no more rows are admitted than are left.
        """
        slot = max(range(len(self.running)), key=lambda index: self.running[index].started)
        row = self.leave(slot)
        self._limit_rows()
        return slot, row

    def _limit_rows(self) -> None:
        self._max_rows = max(len(self.running), 1)

    def record_step(self, seconds: float) -> None:
        """Take the time of a step into account."""
        self._fastest_step = min(self._fastest_step, seconds)
        self._mean_step += _NEWEST_WEIGHT * (seconds - self._mean_step)

    def clear(self) -> list[Row]:
        """Take out all rows, those that run first."""
        rows = [*self.running, *self.waiting]
        self.running.clear()
        self.waiting.clear()
        return rows
