"""A cache of tensors that are kept for reuse between requests."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Generic, TypeVar

from torch import Tensor

Value = TypeVar("Value")


class TensorLru(Generic[Value]):
    """The most recently used values, up to a number of bytes. For one thread at a time, but for
    `in` and `stats`.

    A value is a tensor, or tensors in sequences, mappings and dataclasses. A value that is larger
    than the whole capacity is not kept.
    """

    def __init__(self, capacity: int) -> None:
        """capacity: bytes; with 0 nothing is kept."""
        self.capacity = capacity
        self._entries: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()
        self._held = self._hits = self._misses = self._evictions = 0

    def __contains__(self, key: bytes) -> bool:
        """Whether a value is kept now. For any thread."""
        return key in self._entries

    def get(self, key: bytes) -> Value | None:
        """Returns the value of a key, which becomes the most recently used, or None."""
        if key not in self._entries:
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: bytes, value: Value) -> None:
        """Keeps a value. `key` must be new, as after a miss of `get`."""
        size = held_bytes(value)
        if size > self.capacity:
            return
        self._entries[key] = (value, size)
        self._held += size
        while self._held > self.capacity:
            _, (_, evicted) = self._entries.popitem(last=False)
            self._held -= evicted
            self._evictions += 1

    def clear(self) -> None:
        """Drops all values; the counts stay."""
        self._entries.clear()
        self._held = 0

    @property
    def stats(self) -> dict[str, int]:
        """Counts since the start (hits, misses, evictions), and the bytes held now."""
        return {
            "hits": self._hits,
            "misses": self._misses,
            "evictions": self._evictions,
            "bytes": self._held,
        }


def held_bytes(value: object) -> int:
    """Counts the bytes of all tensors in a value."""
    if isinstance(value, Tensor):
        return value.nbytes
    if is_dataclass(value):
        return sum(held_bytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return sum(map(held_bytes, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return sum(map(held_bytes, value))
    return 0
