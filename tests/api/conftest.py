"""The app before fake runners, called over ASGI."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from api.app import app
from api.gateway import Gateway, current_gateway
from common.catalog import CATALOG
from settings import Settings
from tests.support.fakes.runner import FakeDependency, FakeRunner


@pytest.fixture
async def runners() -> AsyncIterator[dict[str, FakeRunner]]:
    """Each on a socket of its own, whose path has to be short."""
    fakes = {model: FakeRunner(model) for model in CATALOG}
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fakes-"))
        for model, runner in fakes.items():
            await stack.enter_async_context(runner.serve(Path(folder, model)))
        yield fakes


class Started(httpx.ASGITransport):
    """Waits with its first request until every runner answers, as `/readyz` would tell."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(app, raise_app_exceptions=False)
        self.gateway = gateway
        self.started = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        while not self.started:
            self.started = self.gateway.fleet.ready
            await asyncio.sleep(0)
        return await super().handle_async_request(request)


@pytest.fixture
async def serve(runners, monkeypatch) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Call it with settings, and the name of the GPU where there is to be one."""
    gateways = []
    for name in os.environ:
        if name.startswith("CHATVLM_"):
            monkeypatch.delenv(name)

    def start(gpu: str | None = None, **settings) -> httpx.AsyncClient:
        monkeypatch.setattr("api.gateway.gpu_name", lambda: gpu)
        beside = {model: FakeDependency(runner) for model, runner in runners.items()}
        gateway = Gateway(beside, Settings(**settings))
        gateways.append(gateway)
        gateway.fleet.open()
        monkeypatch.setitem(app.dependency_overrides, current_gateway, lambda: gateway)
        return httpx.AsyncClient(transport=Started(gateway), base_url="http://service")

    yield start
    for gateway in gateways:
        gateway.fleet.close()


@pytest.fixture
async def client(serve) -> httpx.AsyncClient:
    return serve()
