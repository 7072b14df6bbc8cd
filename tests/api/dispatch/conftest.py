"""A fake runner, and the gateway's client of it, beside the gateway and on another host."""

from collections.abc import AsyncIterator

import pytest

from api.dispatch.runner_client import LocalRunnerClient, RunnerClient
from tests.support.fakes.runner import FakeDependency, FakeRunner


@pytest.fixture
async def fake() -> FakeRunner:
    return FakeRunner("got_ocr")


@pytest.fixture(params=["beside the gateway", "on another host"])
async def runner(request, fake, tmp_path_factory) -> AsyncIterator[RunnerClient]:
    is_local = request.param == "beside the gateway"
    async with fake.serve(tmp_path_factory.mktemp("s") / "s" if is_local else ("127.0.0.1", 0)):
        runner = (
            LocalRunnerClient("got_ocr", FakeDependency(fake))
            if is_local
            else RunnerClient("got_ocr", fake.url)
        )
        yield runner
        runner.close()
