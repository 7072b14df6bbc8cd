"""The servers that the tests share, and their logs where a test fails."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.support.models.checkpoints import make_checkpoint
from tests.support.server import RAMBLING, RAMBLING_SEED, SAYS, Server, free_port


@pytest.fixture(scope="session")
def reader() -> Iterator[Server]:
    """The embedded reader alone, in two processes."""
    with Server(models="reader", reader_processes=2) as server:
        yield server


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of every vision-language model."""
    folder = tmp_path_factory.mktemp("weights")
    for model, words in {**SAYS, RAMBLING: None}.items():
        make_checkpoint(model, folder / model, says=words, seed=RAMBLING_SEED)
    return folder


@pytest.fixture(scope="session")
def fleet(weights: Path) -> Iterator[Server]:
    """Every model of the catalog; on port 8000 where that is free.

    In float32, where a row's tokens do not depend on the rows beside it.
    """
    with Server(
        port=free_port(8000), weights=weights, reader_processes=1, dtype="float32"
    ) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for name, value in getattr(item, "funcargs", {}).items():
        if isinstance(value, Server) and call.when == "call":
            log = value.new_log()
            if report.failed:
                report.sections.append((f"log of the server '{name}'", log))
    return report
