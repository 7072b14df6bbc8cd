"""The server that the tests of structured answers share."""

from collections.abc import Iterator

import pytest

from tests.support.models.checkpoints import make_checkpoint
from tests.support.server import Server


@pytest.fixture(scope="session")
def structured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A random Qwen3-VL, whose template describes functions, and the embedded reader."""
    weights = tmp_path_factory.mktemp("structured")
    make_checkpoint("qwen3_vl_2b", weights / "qwen3_vl_2b")
    with Server(
        models="qwen3_vl_2b,reader",
        preload="qwen3_vl_2b,reader",
        weights=weights,
        reader_processes=1,
        dtype="float32",
        request_timeout=120,
    ) as server:
        yield server
