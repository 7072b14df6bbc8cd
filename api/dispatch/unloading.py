"""Chooses which model is unloaded before another is loaded: the one that was idle longest.

Each host has a limit on the number of loaded models, and each device has its memory.
"""

from collections.abc import Mapping

from api.dispatch.runner_client import RunnerClient
from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from common.messages import Status
from common.units import GIB

RETRY_AFTER = 5
"""Seconds after which a client may try again."""

Statuses = Mapping[RunnerClient, Status]
"""The statuses of the reachable runners of one host."""


def next_to_unload(
    runner: RunnerClient, statuses: Statuses, max_loaded: int | None
) -> RunnerClient | None:
    """The runner whose model has to be unloaded next, before `runner` can load its own.

    None if nothing has to be unloaded any more. The caller unloads what is returned and asks again:
    how much memory that frees shows only afterwards.

    max_loaded: most loaded models of one host.

    Raises `Refusal` (UNAVAILABLE) if there is too little memory and no other model is left on the
    devices, or if every model that could be unloaded is busy.
    """
    own = statuses.get(runner)
    if own is None or own.state != "unloaded":
        return None
    loaded = {
        other: status
        for other, status in statuses.items()
        if status.state in ("loaded", "loading")
        and not CATALOG[other.model].is_embedded
        and not status.is_upstream
    }
    if max_loaded is None or len(loaded) < max_loaded:
        if own.needs_bytes <= own.free_bytes:
            return None
        loaded = {
            other: status
            for other, status in loaded.items()
            if not set(own.places).isdisjoint(status.places)
        }
        if not loaded:
            raise Refusal(
                ErrorCode.UNAVAILABLE,
                f"Model '{runner.model}' needs {own.needs_bytes / GIB:.1f} GiB of memory; "
                f"{own.free_bytes / GIB:.1f} GiB are free.",
            )
    idle = [other for other, status in loaded.items() if _is_idle(other, status)]
    if not idle:
        verb = "is" if len(loaded) == 1 else "are"
        busy = " and ".join(other.model for other in loaded)
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"There is no room for model '{runner.model}' while {busy} {verb} busy.",
            RETRY_AFTER,
        )
    return max(idle, key=lambda other: loaded[other].idle_seconds)


def _is_idle(runner: RunnerClient, status: Status) -> bool:
    return status.state == "loaded" and not (status.rows or status.queued or runner.requests)
