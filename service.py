"""The Bento: the gateway service with its routes, and a runner per catalog entry beside it."""

from collections.abc import Mapping
from typing import Any

import bentoml

from api.app import app
from api.gateway import DEADLINE_GRACE, Gateway
from api.json_errors import JSONErrors
from common.bentoml_workarounds import end_in_order
from common.catalog import CATALOG
from common.disconnect import CancelOnDisconnect
from runners.service import NO_TIMEOUT, make_runner, start_again
from settings import settings


def make_service(runners: Mapping[str, Any]) -> Any:
    """The gateway before these runners, by model id, each started beside it."""

    class ChatVLMLLM:
        def __init__(self) -> None:
            self.gateway = Gateway({model: getattr(self, model) for model in runners}, settings())

        prepare = bentoml.on_deployment(start_again)

        @bentoml.on_startup
        async def open(self) -> None:
            self.gateway.fleet.open()

        @bentoml.on_shutdown
        async def close(self) -> None:
            self.gateway.fleet.close()

        async def __is_ready__(self) -> bool:
            return self.gateway.fleet.ready

    for model, runner in runners.items():
        setattr(ChatVLMLLM, model, bentoml.depends(runner))
    service: Any = bentoml.service(
        name="chatvlmllm",
        http={"port": 8000},
        traffic={"timeout": NO_TIMEOUT},
        runner_probe={"enabled": False},  # `__is_ready__` says it
    )(bentoml.asgi_app(app, path="/")(ChatVLMLLM))
    service.add_asgi_middleware(JSONErrors)
    service.add_asgi_middleware(CancelOnDisconnect)
    return service


end_in_order(patience=settings().request_timeout + DEADLINE_GRACE + 1)
# `bentoml serve service:qwen3_vl_2b` serves one of them by itself.
RUNNERS = {entry.id: make_runner(entry, settings()) for entry in CATALOG.values()}
globals().update(RUNNERS)
service = make_service(
    {
        model: RUNNERS[model]
        for model in settings().models or CATALOG
        if model not in settings().remote
    }
)
