import torch

from runners.vlm.tensor_lru import Kept, held_bytes


def tensor(megabytes):
    return torch.zeros(megabytes, 2**18)


MIB = 2**20


def test_what_was_put_is_got_back():
    kept = Kept(4 * MIB)
    value = [(tensor(1), tensor(1))]
    kept.put(b"a", value)
    assert kept.get(b"a") is value
    assert kept.get(b"b") is None


def test_the_least_recently_used_goes_first():
    kept = Kept(3 * MIB)
    for key in (b"a", b"b", b"c"):
        kept.put(key, tensor(1))
    kept.get(b"a")
    kept.put(b"d", tensor(1))
    assert [kept.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]


def test_one_large_value_pushes_out_several():
    kept = Kept(3 * MIB)
    for key in (b"a", b"b", b"c"):
        kept.put(key, tensor(1))
    kept.put(b"d", tensor(2))
    assert [kept.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [
        False,
        False,
        True,
        True,
    ]


def test_what_is_larger_than_all_is_not_kept_and_pushes_nothing_out():
    kept = Kept(2 * MIB)
    kept.put(b"a", tensor(1))
    kept.put(b"b", tensor(3))
    assert kept.get(b"a") is not None
    assert kept.get(b"b") is None


def test_no_capacity_keeps_nothing():
    kept = Kept(0)
    kept.put(b"a", tensor(1))
    assert kept.get(b"a") is None


def test_it_counts_what_happened():
    kept = Kept(2 * MIB)
    for key in (b"a", b"b", b"c"):
        assert kept.get(key) is None
        kept.put(key, tensor(1))
    kept.get(b"c")
    assert kept.stats == {"hits": 1, "misses": 3, "evictions": 1, "bytes": 2 * MIB}


def test_clearing_frees_the_bytes_and_keeps_the_counts():
    kept = Kept(2 * MIB)
    kept.put(b"a", tensor(1))
    kept.get(b"a")
    kept.clear()
    assert kept.get(b"a") is None
    assert kept.stats == {"hits": 1, "misses": 1, "evictions": 0, "bytes": 0}


def test_bytes_are_those_of_all_tensors_however_nested():
    nested = {"pooled": (tensor(1), tensor(2)), "deep": [[tensor(1)]], "none": None, "name": "x"}
    assert held_bytes(nested) == 4 * MIB
