"""Request bodies that arrive in chunks, and count what was taken of them."""

from collections.abc import Iterable

from fastapi import Request


class Body:
    def __init__(self, chunks: Iterable[bytes], **headers: str) -> None:
        """headers: `content_length="9"` being Content-Length."""
        self.chunks = iter(chunks)
        self.taken = 0
        """Bytes."""
        self.headers = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]

    async def receive(self) -> dict:
        chunk = next(self.chunks, b"")
        self.taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

    def request(self) -> Request:
        scope = {"type": "http", "headers": self.headers, "method": "POST"}
        return Request(scope, self.receive)
