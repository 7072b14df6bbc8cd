"""The app before fake runners, called over ASGI."""

import os
from collections.abc import Callable

import httpx
import pytest

from api.app import app
from api.gateway import Gateway, _current
from runners.catalog import CATALOG
from settings import Settings
from tests.api.fakes import FakeRunner


@pytest.fixture
async def runners() -> dict[str, FakeRunner]:
    return {model: FakeRunner() for model in CATALOG}


@pytest.fixture
def serve(runners, monkeypatch) -> Callable[..., httpx.AsyncClient]:
    """Call it with settings, and the name of the GPU where there is to be one."""
    for name in os.environ:
        if name.startswith("CHATVLM_"):
            monkeypatch.delenv(name)

    def start(gpu: str | None = None, **settings) -> httpx.AsyncClient:
        monkeypatch.setattr("api.gateway.gpu_name", lambda: gpu)
        gateway = Gateway(runners, Settings(**settings))
        monkeypatch.setitem(app.dependency_overrides, _current, lambda: gateway)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://service")

    return start


@pytest.fixture
def client(serve) -> httpx.AsyncClient:
    return serve()
