"""Defines the Bento: the gateway's service with its routes, and a runner's service per model.

BentoML finds the services as attributes of this module, `service` and a model's id, and the runners
that belong to the gateway as attributes of its class. Importing this module patches libraries
(`common.bentoml_workarounds`), and ends the process if a setting is wrong.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

import bentoml
from starlette.middleware.cors import CORSMiddleware

from api.app import app
from api.dependencies.admission import DEADLINE_GRACE
from api.gateway import Gateway
from api.middleware.bentoml_errors import BentomlErrors
from api.middleware.clean_paths import CleanPaths
from api.middleware.head_requests import HeadRequests
from api.middleware.request_log import RequestLog
from common.bentoml_workarounds import NO_ACCESS_LOG, NO_TIMEOUT, apply_workarounds
from common.catalog import CATALOG, current_id
from common.disconnect import CancelOnDisconnect
from common.logs.setup import configure
from runners.service import make_runner
from settings import doubtful_settings, settings, unknown_variables

logger = logging.getLogger(__name__)


def make_service(runners: Mapping[str, Any]) -> Any:
    """Make the gateway's BentoML service, which starts these runners beside it.

    runners: the BentoML service of each, by model id.
    """

    class GatewayService:
        def __init__(self) -> None:
            self.gateway = Gateway({model: getattr(self, model) for model in runners}, settings())

        @bentoml.on_startup
        async def open(self) -> None:
            self.gateway.fleet.open()

        @bentoml.on_shutdown
        async def close(self) -> None:
            self.gateway.fleet.close()

        async def __is_ready__(self) -> bool:
            return self.gateway.fleet.ready

    for model in runners:
        if model in globals() or model == "gateway" or hasattr(GatewayService, model):
            raise SystemExit(
                f"CHATVLM_CATALOG: the service itself uses the id '{model}'; choose another."
            )

    # BentoML starts those runners that are attributes of the service's class.
    dependencies = {model: bentoml.depends(runner) for model, runner in runners.items()}
    with_runners = type("ChatVLMLLM", (GatewayService,), dependencies)
    service: Any = bentoml.service(
        name="chatvlmllm",
        http={"port": 8000},
        traffic={"timeout": NO_TIMEOUT},
        logging=NO_ACCESS_LOG,
        runner_probe={"enabled": False},  # `__is_ready__` tells whether the runners are ready
    )(bentoml.asgi_app(app, path="/")(with_runners))
    app.root_path = settings().root_path
    if settings().cors_origins:
        service.add_asgi_middleware(
            CORSMiddleware,
            allow_origins=settings().cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    service.add_asgi_middleware(RequestLog)
    service.add_asgi_middleware(HeadRequests)
    service.add_asgi_middleware(CleanPaths, root_path=settings().root_path)
    service.add_asgi_middleware(BentomlErrors)
    service.add_asgi_middleware(CancelOnDisconnect)
    return service


def __getattr__(model: str) -> Any:
    """The runner of a model: `bentoml serve service:qwen3_vl_2b` serves that one by itself."""
    if current_id(model) not in RUNNERS:
        raise AttributeError(f"module '{__name__}' has no attribute '{model}'")
    return RUNNERS[current_id(model)]


warnings = [
    *unknown_variables(os.environ),
    *doubtful_settings(settings()),
    *apply_workarounds(patience=settings().request_timeout + DEADLINE_GRACE + 1),
]
if bentoml.server_context.worker_index is None:  # not again in each process that this one starts
    for warning in warnings:
        logger.warning(warning)
else:
    configure(as_json=settings().log_format == "json")

RUNNERS = {entry.id: make_runner(entry, settings()) for entry in CATALOG.values()}
service = make_service(
    {
        model: RUNNERS[model]
        for model in settings().models or CATALOG
        if model not in settings().remote
    }
)
