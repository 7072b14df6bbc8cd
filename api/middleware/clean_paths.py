"""ASGI middleware that takes paths with slashes too many, or with a proxy's prefix.

It does not redirect: that would lose the body in some clients, and the scheme behind a proxy.
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASHES = re.compile("/{2,}")
_FOLDER = "/playground/"
"""The one path whose last slash matters: the page's files are beside it."""


class CleanPaths:
    """Joins double slashes and drops the last one: `//ocr/` is `/ocr`."""

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        """root_path: is dropped where a proxy has kept it, as in `/prefix`."""
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = _SLASHES.sub("/", scope["path"])
            if f"{path}/".startswith(f"{self.root_path}/"):
                path = path[len(self.root_path) :] or "/"
            if not path.endswith(_FOLDER):
                path = path.rstrip("/") or "/"
            scope = {**scope, "path": path}
        await self.app(scope, receive, send)
