"""The Bento: the gateway service with its routes, and a runner per catalog entry beside it."""

import bentoml

from api.app import app
from api.errors import JSONErrors
from api.gateway import Gateway as GatewayState
from runners.catalog import CATALOG
from runners.disconnect import CancelOnDisconnect
from runners.runner import NO_TIMEOUT, make_runner
from settings import settings

RUNNERS = {
    model: make_runner(entry, settings())
    for model, entry in CATALOG.items()
    if model in (settings().models or CATALOG)
}
"""By model id. `bentoml serve service:<id>` serves one of them by itself."""
globals().update(RUNNERS)


class Gateway:
    def __init__(self) -> None:
        runners = {model: getattr(self, attribute(model)) for model in RUNNERS}
        self.gateway = GatewayState(runners, settings())


def attribute(model: str) -> str:
    return f"runner_{model}"


for model, runner in RUNNERS.items():
    setattr(Gateway, attribute(model), bentoml.depends(runner))
Gateway = bentoml.asgi_app(app, path="/")(Gateway)
Gateway = bentoml.service(name="chatvlmllm", http={"port": 8000}, traffic={"timeout": NO_TIMEOUT})(
    Gateway
)
Gateway.add_asgi_middleware(JSONErrors)
Gateway.add_asgi_middleware(CancelOnDisconnect)
