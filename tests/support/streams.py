"""Answers that come as server-sent events."""

import json
from typing import Any

UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Headers of a stream that no proxy may hold back."""


def events(body: str) -> list[tuple[str, dict[str, Any]]]:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    assert body.endswith("\n\n")
    lines = [event.split("\n") for event in body.removesuffix("\n\n").split("\n\n")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in lines
    ]
