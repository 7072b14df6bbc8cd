"""The Bento: the gateway service with its routes, and a runner per catalog entry beside it."""

from collections.abc import Mapping
from typing import Any

import bentoml

from api.app import app
from api.errors import JSONErrors
from api.gateway import DEADLINE_GRACE, Gateway
from runners.catalog import CATALOG
from runners.disconnect import CancelOnDisconnect
from runners.runner import NO_TIMEOUT, make_runner
from settings import settings
from shutdown import end_in_order


def make_service(runners: Mapping[str, Any]) -> Any:
    """The gateway before these runners, by model id."""

    class ChatVLMLLM:
        def __init__(self) -> None:
            self.gateway = Gateway({model: getattr(self, model) for model in runners}, settings())

    for model, runner in runners.items():
        setattr(ChatVLMLLM, model, bentoml.depends(runner))
    service: Any = bentoml.service(
        name="chatvlmllm", http={"port": 8000}, traffic={"timeout": NO_TIMEOUT}
    )(bentoml.asgi_app(app, path="/")(ChatVLMLLM))
    service.add_asgi_middleware(JSONErrors)
    service.add_asgi_middleware(CancelOnDisconnect)
    return service


end_in_order(patience=settings().request_timeout + DEADLINE_GRACE + 1)
RUNNERS = {model: make_runner(CATALOG[model], settings()) for model in settings().models or CATALOG}
globals().update(RUNNERS)  # `bentoml serve service:qwen3_vl_2b` serves one of them by itself
service = make_service(RUNNERS)
