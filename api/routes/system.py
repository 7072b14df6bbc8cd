"""GET /, /health, /models · POST, DELETE /models/{name}"""

from typing import Any

from fastapi import APIRouter, Response

from api.gateway import CurrentGateway
from api.schemas.guide import ERRORS, Done, Health, ModelInfo, Models, Replica, Root, Version
from common.catalog import CATALOG
from common.messages import Status

router = APIRouter(tags=["system"])
STATUS_FIELDS = set(Replica.model_fields) - {"url"}
"""The fields of a runner's status that are answered."""
_MODEL_ERRORS: dict[int | str, dict[str, Any]] = {
    status: ERRORS[status] for status in (404, 500, 503)
}


@router.get("/")
async def root() -> Root:
    """What this is and where to look next."""
    return Root()


@router.get("/version")
async def version() -> Version:
    """The version of this service."""
    return Version()


@router.get("/ping", response_class=Response)
async def ping() -> Response:
    """Answers while the gateway serves, without a body."""
    return Response()


@router.get("/health")
async def health(gateway: CurrentGateway) -> Health:
    """Whether the service is up, its GPU, and the models in memory."""
    fleet = gateway.fleet
    statuses = await fleet.statuses()
    loaded = [model for model, status in statuses.items() if status.state == "loaded"]
    return Health(
        status="degraded" if fleet.unreachable else "healthy",
        gpu_available=gateway.gpu_name is not None,
        gpu_name=gateway.gpu_name,
        models_loaded=len(loaded),
        loaded_models=loaded,
        default_model=fleet.default,
        unreachable_models=fleet.unreachable,
    )


@router.get("/models")
async def models(gateway: CurrentGateway) -> Models:
    """Every model of the catalog, and its state here."""
    statuses = await gateway.fleet.statuses()
    available = [
        ModelInfo(
            id=entry.id,
            name=entry.name,
            params=entry.params,
            options=sorted(entry.options),
            replicas=_replicas(gateway.fleet.remote_statuses(entry.id)),
            **_status_fields(statuses[entry.id]),
        )
        for entry in CATALOG.values()
    ]
    return Models(
        available=available,
        loaded=[info.id for info in available if info.state == "loaded"],
        default=gateway.fleet.default,
    )


@router.post("/models/{model_name:path}", responses=_MODEL_ERRORS)
async def load(model_name: str, gateway: CurrentGateway) -> Done:
    """Load a model now, however long it takes; others may have to make room."""
    await gateway.fleet.load(model_name)
    return Done(message=f"Model {model_name} loaded")


@router.delete("/models/{model_name:path}", responses=_MODEL_ERRORS)
async def unload(model_name: str, gateway: CurrentGateway) -> Done:
    """Free a model's memory; the next request for it loads it again."""
    await gateway.fleet.unload(model_name)
    return Done(message=f"Model {model_name} unloaded")


def _replicas(statuses: dict[str, Status] | None) -> list[Replica] | None:
    if statuses is None:
        return None
    return [Replica(url=url, **_status_fields(status)) for url, status in statuses.items()]


def _status_fields(status: Status) -> dict[str, Any]:
    return status.model_dump(include=STATUS_FIELDS)
