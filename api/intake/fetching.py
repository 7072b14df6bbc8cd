"""Fetches the file at an untrusted URL, but never from an address of the operator's own network.

The address is checked where the socket to it is made: whatever a name resolved to a moment ago, and
wherever a redirect leads, no connection to a forbidden address is begun.
"""

import asyncio
import ipaddress
import socket
import ssl
from typing import Any

import aiohttp
from yarl import URL

from api.intake.body import file_too_large
from common.failures import ErrorCode, Refusal
from settings import Settings

MAX_REDIRECTS = 5
FETCH_SECONDS = 10.0
CHUNK_BYTES = 64 * 1024
_FORBIDDEN_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments; metadata of Oracle Cloud
        "168.63.129.16/32",  # metadata of Azure
        "2001::/32",  # holds an IPv4 address: Teredo, RFC 4380
        "2002::/16",  # holds an IPv4 address: 6to4, RFC 3056
        "fec0::/10",  # site-local, RFC 3879
    )
]
"""These are added to the networks that `ipaddress` knows: private, loopback, link-local, shared and
reserved addresses, NAT64's among them."""
_NOT_FETCHED = "The URL cannot be fetched: "


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    known = ip.is_global and not ip.is_multicast and not ip.is_reserved
    return known and not any(ip in network for network in _FORBIDDEN_NETWORKS)


class Fetcher:
    """Fetches over https, without cookies, proxies or credentials."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None = None) -> None:
        """tls: says whose certificates are trusted; by default those that the system trusts."""
        self._settings = settings
        self._tls = tls

    async def fetch(self, url: str) -> bytes:
        """The file's bytes.

        Raises `Refusal`: BAD_PARAMETER if URLs are not allowed, or this one is not; BAD_IMAGE
        if the host does not send the file; TOO_LARGE while it arrives, over the limit of a file.
        """
        if not self._settings.allow_urls:
            raise Refusal(
                ErrorCode.BAD_PARAMETER,
                "URLs are not fetched here: send the file itself, or ask the operator to set "
                "CHATVLM_ALLOW_URLS.",
            )
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                return await self._follow(_parsed(url))
        except TimeoutError:
            raise Refusal(
                ErrorCode.BAD_IMAGE, f"{_NOT_FETCHED}it took longer than {FETCH_SECONDS:g} seconds."
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Refusal(
                ErrorCode.BAD_IMAGE, f"{_NOT_FETCHED}its host does not answer as it should."
            ) from error

    async def _follow(self, url: URL) -> bytes:
        connector = aiohttp.TCPConnector(
            socket_factory=_public_socket,
            happy_eyeballs_delay=None,  # else what the factory raises is lost among attempts
            ssl=self._tls or True,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session:
            for _ in range(MAX_REDIRECTS + 1):
                async with session.get(url, allow_redirects=False) as response:
                    target = response.headers.get("Location")
                    if 300 <= response.status < 400 and target:
                        url = _parsed(str(url.join(URL(target))))
                        continue
                    if response.status != 200:
                        raise Refusal(
                            ErrorCode.BAD_IMAGE,
                            f"{_NOT_FETCHED}its host answers {response.status}.",
                        )
                    return await self._body(response)
        raise Refusal(
            ErrorCode.BAD_IMAGE, f"{_NOT_FETCHED}it redirects more than {MAX_REDIRECTS} times."
        )

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        data = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            data += chunk
            if max(len(data), response.content_length or 0) > self._settings.max_file_bytes:
                raise file_too_large(self._settings)
        return bytes(data)


def _parsed(text: str) -> URL:
    """The URL. Raises `Refusal` (BAD_PARAMETER) if the text is not an https URL."""
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme != "https" or not url.host:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"{_NOT_FETCHED}only https is taken, as in https://host/page.png.",
        )
    return url


def _public_socket(address: Any) -> socket.socket:
    """A socket for an address. Raises `Refusal` (BAD_PARAMETER) if the address is not public."""
    family, kind, protocol, _, (host, *_) = address
    if not is_public(host):
        raise Refusal(
            ErrorCode.BAD_PARAMETER, f"{_NOT_FETCHED}its address is not one of the public Internet."
        )
    return socket.socket(family, kind, protocol)
