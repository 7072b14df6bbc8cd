"""A scheduler without a model, and rows for it."""

from common.deadline import Deadline
from runners.scheduling.kv_space import KvSpace
from runners.scheduling.prefill_budget import PrefillBudget
from runners.scheduling.row import GREEDY, Row
from runners.scheduling.scheduler import Scheduler
from tests.support.fakes.kv import ArrayStore, Prompt

BLOCK = 4
"""Columns of a block."""


def make_row(
    length: int = 10, prefix: int = 0, visual: int = 0, seconds: float = 600, first: int = 7
) -> Row:
    """first: the token of which its prefix consists."""
    tokens = (first,) * prefix + tuple(range(length - prefix))
    return Row(Prompt(tokens, prefix, visual), 100, Deadline(seconds), GREEDY)


class Scheduling(Scheduler):
    """A scheduler over blocks that hold nothing, with a prefill and a step that take no time."""

    def __init__(
        self,
        blocks: int = 1000,
        step_target: float = 60.0,
        most_tokens: int = 1000,
        gap: float = 60.0,
        kept: int = 1000,
    ) -> None:
        """blocks: the limit. most_tokens: of a prefill. kept: blocks that prefixes may hold."""
        self.limit = blocks
        self.store = ArrayStore(BLOCK)
        self.space = KvSpace(self.store, lambda: self.limit, kept)
        super().__init__(step_target, self.space, PrefillBudget(gap, most_tokens))

    def put(self, *rows: Row) -> None:
        """Queue rows and admit those that may join."""
        for row in rows:
            self.add(row)
        self.admit()

    def prefill(self) -> list[tuple[Row, int, int]]:
        """See what has to be seen, compute the next slices, and give their rows a token."""
        for row in self.rows_without_features():
            row.features = "seen"
        slices = self.next_slices()
        for done in slices:
            self.finish_slice(done)
            if done.is_last:
                done.row.tokens.append(1)
        return [(one.row, one.start, one.end) for one in slices]

    def decode(self) -> Row | None:
        """Give every running row a token. Returns a row for which there is no memory."""
        stuck = self.make_room()
        if stuck is None:
            for row in self.running:
                row.computed = row.columns
                row.tokens.append(1)
        return stuck

    def run(self, *rows: Row) -> None:
        """Queue rows and prefill until all of them run."""
        self.put(*rows)
        while self.prefilling:
            self.prefill()
            self.admit()
        assert set(rows) <= set(self.running)
