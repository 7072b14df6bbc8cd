"""Entries of models that tests load."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from common.catalog import CATALOG, Entry

QWEN2_5_VL = replace(
    CATALOG["qwen_vl_2b"],
    id="qwen2_5_vl_3b",
    name="Qwen2.5-VL 3B",
    params="3B",
    repository="Qwen/Qwen2.5-VL-3B-Instruct",
    weights_gib=7.0,
    revision=None,
)
"""A model of a known family that only a catalog file adds."""


@contextmanager
def listed(model_id: str) -> Iterator[Entry]:
    """The entry of a model, which is in the catalog meanwhile."""
    added = CATALOG.setdefault(model_id, QWEN2_5_VL)
    assert added.id == model_id
    try:
        yield added
    finally:
        if added is QWEN2_5_VL:
            del CATALOG[model_id]
