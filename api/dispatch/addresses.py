"""Looks up the addresses behind the URLs of a model's runners."""

import asyncio
import logging
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class Addresses:
    """The URLs in the setting; a host name stands for all addresses that it resolves to."""

    def __init__(self, urls: Iterable[str]) -> None:
        self._found: dict[str, list[str]] = {url: [] for url in urls}
        """For each URL in the setting, URLs with one address each."""

    async def look_up(self) -> set[str]:
        """URLs with one address each.

        If the resolver fails, the addresses that it found before are returned.
        """
        await asyncio.gather(*map(self._look_up, self._found))
        return {url for urls in self._found.values() for url in urls}

    async def _look_up(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, parts.port, type=socket.SOCK_STREAM
            )
        except socket.gaierror as error:
            if error.errno not in NO_SUCH_NAME:
                logger.warning("Looking up %s: %s", parts.hostname, error)
                return  # the addresses known so far stay
            infos = []
        # A host with IPv4 and IPv6 is one replica; `bentoml serve` listens on IPv4 by default.
        chosen = min((family for family, *_ in infos), default=None)
        template = "http://[%s]:%s" if chosen == socket.AF_INET6 else "http://%s:%s"
        self._found[url] = [
            template % address[:2] for family, *_, address in infos if family == chosen
        ]
