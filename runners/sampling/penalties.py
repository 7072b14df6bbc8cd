"""Lowers the logits of tokens that a row has had already: three penalties, for all rows at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor

from runners.scheduling.row import Row

_FIRST_CAPACITY = 512
"""Tokens of a list for which there is room at first; each growth doubles it."""


class _Prompt(Protocol):
    """What is read here of a row's `encoded`."""

    tokens: Tensor


@dataclass
class _Seen:
    """The host's copy of a row's list."""

    slot: int
    places: dict[int, int] = field(default_factory=dict)
    """Where each token is in the list."""
    tokens: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    """How often the answer has each token of the list."""
    counted: int = 0
    """How many tokens of the answer are counted."""

    def add(self, token: int, times: int) -> int:
        """Count a token. Returns its place."""
        place = self.places.setdefault(token, len(self.counts))
        if place == len(self.counts):
            self.tokens.append(token)
            self.counts.append(0)
        self.counts[place] += times
        return place


@dataclass(frozen=True)
class PenalisedRows:
    """What the penalties of a step need, on the device."""

    rows: Tensor
    """[rows] int64: which rows of the scores."""
    tokens: Tensor
    """[rows, longest list] int64; a shorter list is filled up with its first token."""
    counts: Tensor
    """[rows, longest list] float32: how often the answer has each of them."""
    penalties: Tensor
    """[3, rows, 1] float32: repetition, frequency, presence."""


class Penalties:
    """Keeps, on the device, a list of the different tokens of each row that has penalties.

    A step uploads only what it adds to the lists: for most rows one token. A row that is not in a
    step loses its list, and gets a new one when it comes back.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seen: dict[Row, _Seen] = {}
        self._tokens = torch.zeros(0, 0, dtype=torch.long, device=device)
        """[slots, capacity]: the list of each slot."""
        self._counts = torch.zeros(0, 0, dtype=torch.float32, device=device)

    def prepare(self, rows: Sequence[tuple[int, Row]]) -> PenalisedRows | None:
        """Count the newest tokens of a step's rows with penalties; None if there is nothing to do.

        rows: with the place of each in the scores.
        """
        if not rows:
            self.forget()
            return None
        try:
            return self._prepare(rows)
        except Exception:
            self.forget()  # the lists may lack what was counted
            raise

    def forget(self) -> None:
        """Drop all lists."""
        if self._seen:
            self._seen = {}
            self._tokens, self._counts = self._tokens.new_zeros(0, 0), self._counts.new_zeros(0, 0)

    def _prepare(self, rows: Sequence[tuple[int, Row]]) -> PenalisedRows | None:
        present = {row for _, row in rows}
        self._seen = {row: seen for row, seen in self._seen.items() if row in present}
        changed: list[tuple[int, int, int, int]] = []
        """Slot, place, token, count."""
        for _, row in rows:
            changed += self._count(row)
        used = [(place, row, self._seen[row]) for place, row in rows if self._seen[row].counts]
        if not used:
            return None
        longest = max(len(seen.counts) for _, _, seen in used)
        self._make_room(1 + max(seen.slot for seen in self._seen.values()), longest)
        numbers = [
            (
                place,
                seen.slot,
                len(seen.counts),
                row.sampling.repetition_penalty,
                row.sampling.frequency_penalty,
                row.sampling.presence_penalty,
            )
            for place, row, seen in used
        ]
        # One upload for both: whole numbers are exact in float64.
        uploaded = torch.tensor(
            [number for entry in (*numbers, *changed) for number in entry], dtype=torch.float64
        ).to(self._device, non_blocking=True)
        split = 6 * len(numbers)
        parameters = uploaded[:split].view(-1, 6).T
        if changed:
            slots, places, tokens, counts = uploaded[split:].view(-1, 4).long().T
            self._tokens[slots, places] = tokens
            self._counts[slots, places] = counts.float()
        chosen, slots, lengths = parameters[:3].long()
        inside = torch.arange(longest, device=self._device) < lengths[:, None]
        tokens, counts = self._tokens[slots, :longest], self._counts[slots, :longest]
        return PenalisedRows(
            chosen,
            torch.where(inside, tokens, tokens[:, :1]),
            torch.where(inside, counts, counts[:, :1]),
            parameters[3:].float()[:, :, None],
        )

    def _count(self, row: Row) -> list[tuple[int, int, int, int]]:
        """Count the tokens of a row that are not counted yet. Returns what changes in its list."""
        seen = self._seen.get(row)
        changed: set[int] = set()
        if seen is None:
            slots = {seen.slot for seen in self._seen.values()}
            seen = _Seen(next(slot for slot in range(len(slots) + 1) if slot not in slots))
            self._seen[row] = seen
            if row.sampling.repetition_penalty != 1:
                prompt = cast(_Prompt, row.encoded).tokens.unique().tolist()
                changed.update(seen.add(token, 0) for token in prompt)
        changed.update(seen.add(token, 1) for token in row.tokens[seen.counted :])
        seen.counted = len(row.tokens)
        return [(seen.slot, place, seen.tokens[place], seen.counts[place]) for place in changed]

    def _make_room(self, slots: int, capacity: int) -> None:
        held_slots, held = self._tokens.shape
        if slots <= held_slots and capacity <= held:
            return
        while held < capacity:
            held = 2 * held or _FIRST_CAPACITY
        held_slots = max(held_slots, slots)
        for name in ("_tokens", "_counts"):
            old: Tensor = getattr(self, name)
            new = old.new_zeros(held_slots, held)
            new[: old.shape[0], : old.shape[1]] = old
            setattr(self, name, new)


def penalise(scores: Tensor, step: PenalisedRows) -> None:
    """Penalises scores [rows, vocabulary] float32 in place, without waiting for the device.

    The repetition penalty comes first and is that of transformers; the other two are vLLM's and
    OpenAI's.
    """
    places = step.rows[:, None] * scores.shape[1] + step.tokens
    repetition, frequency, presence = step.penalties
    flat = scores.view(-1)
    seen = flat[places]
    seen = torch.where(seen < 0, seen * repetition, seen / repetition)
    seen -= frequency * step.counts
    seen -= presence * (step.counts > 0)
    flat.scatter_(0, places.view(-1), seen.view(-1))
