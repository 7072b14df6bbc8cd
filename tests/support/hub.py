"""As much of the Hugging Face hub's protocol as a download and a comparison of checksums take."""

import hashlib
import json
import re
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any

COMMIT = "c0ffee" + 34 * "0"
"""What every branch and every tag leads to."""


class Hub:
    """Serves one repository, whatever its name, while its context is open."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """files: by name."""
        self.files = dict(files)
        self.told: dict[str, bytes] = {}
        """Files of which the checksums are told instead of the real ones."""
        self.revisions: list[str] = []
        """Those that were asked for."""
        self.downloads: list[str] = []
        """The files that were sent."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    def __enter__(self) -> "Hub":
        Thread(target=self._server.serve_forever).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def listed(self) -> list[dict[str, Any]]:
        return [
            {
                "type": "file",
                "path": name,
                "size": len(data),
                "oid": _git_sha1(self.told.get(name, data)),
            }
            for name, data in self.files.items()
        ]


def _commit_of(path: str) -> str:
    """The commit that a path names by itself or by a branch or tag; `COMMIT` if it names none."""
    named = re.search(r"/(?:revision|tree|resolve)/([0-9a-f]{40})(?:/|$)", path)
    return named[1] if named else COMMIT


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            name = path.rpartition("/")[2]
            if "/revision/" in path:
                hub.revisions.append(name)
                self.reply(json.dumps({"id": "some/model", "sha": _commit_of(path)}).encode())
            elif "/tree/" in path:
                self.reply(json.dumps(hub.listed()).encode())
            elif name in hub.files:
                if self.command == "GET":
                    hub.downloads.append(name)
                self.reply(hub.files[name])
            else:
                self.reply(b"", 404)

        do_HEAD = do_GET

        def reply(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Repo-Commit", _commit_of(self.path.partition("?")[0]))
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
