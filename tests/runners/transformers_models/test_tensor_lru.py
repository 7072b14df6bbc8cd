import torch

from common.units import MIB
from runners.transformers_models.tensor_lru import TensorLru, held_bytes
from runners.vlm.interface import Features


def tensor(megabytes):
    return torch.zeros(megabytes, 2**18)


def test_what_was_put_is_got_back():
    lru = TensorLru(4 * MIB)
    value = [(tensor(1), tensor(1))]
    lru.put(b"a", value)
    assert lru.get(b"a") is value
    assert lru.get(b"b") is None


def test_the_least_recently_used_goes_first():
    lru = TensorLru(3 * MIB)
    for key in (b"a", b"b", b"c"):
        lru.put(key, tensor(1))
    lru.get(b"a")
    lru.put(b"d", tensor(1))
    assert [lru.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]


def test_one_large_value_pushes_out_several():
    lru = TensorLru(3 * MIB)
    for key in (b"a", b"b", b"c"):
        lru.put(key, tensor(1))
    lru.put(b"d", tensor(2))
    assert [lru.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [
        False,
        False,
        True,
        True,
    ]


def test_what_is_larger_than_all_is_not_kept_and_pushes_nothing_out():
    lru = TensorLru(2 * MIB)
    lru.put(b"a", tensor(1))
    lru.put(b"b", tensor(3))
    assert lru.get(b"a") is not None
    assert lru.get(b"b") is None


def test_no_capacity_keeps_nothing():
    lru = TensorLru(0)
    lru.put(b"a", tensor(1))
    assert lru.get(b"a") is None


def test_it_counts_what_happened():
    lru = TensorLru(2 * MIB)
    for key in (b"a", b"b", b"c"):
        assert lru.get(key) is None
        lru.put(key, tensor(1))
    lru.get(b"c")
    assert lru.stats == {"hits": 1, "misses": 3, "evictions": 1, "bytes": 2 * MIB}


def test_clearing_frees_the_bytes_and_keeps_the_counts():
    lru = TensorLru(2 * MIB)
    lru.put(b"a", tensor(1))
    lru.get(b"a")
    lru.clear()
    assert lru.get(b"a") is None
    assert lru.stats == {"hits": 1, "misses": 1, "evictions": 0, "bytes": 0}


def test_bytes_are_those_of_all_tensors_however_nested():
    nested = {"pooled": (tensor(1), tensor(2)), "deep": [[tensor(1)]], "none": None, "name": "x"}
    assert held_bytes(nested) == 4 * MIB
    image = torch.zeros(MIB, dtype=torch.uint8)
    assert held_bytes(Features(image, [image, image])) == 3 * MIB
