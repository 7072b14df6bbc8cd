"""An engine before a small server of OpenAI's protocol."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from common.catalog import CATALOG
from runners.upstream.engine import UpstreamEngine
from settings import Settings
from tests.support.fakes.upstream import FakeUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream().serve() as fake:
        yield fake


@pytest.fixture
async def make(upstream) -> AsyncIterator[Callable[..., UpstreamEngine]]:
    """Call it with a model and settings."""
    made: list[UpstreamEngine] = []

    def start(model: str = "qwen3_vl_8b", **settings: Any) -> UpstreamEngine:
        settings = {"upstream": {model: upstream.url}, **settings}
        made.append(UpstreamEngine(CATALOG[model], Settings(**settings)))
        return made[-1]

    yield start
    for engine in made:
        await engine.close()


@pytest.fixture
def engine(make) -> UpstreamEngine:
    return make()
