import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web

from api.intake import fetching
from api.intake.fetching import Fetcher, is_public
from common.failures import ErrorCode, Refusal
from common.units import MIB
from settings import Settings
from tests.support.fakes.runner import picture

NOT_PUBLIC = "The URL cannot be fetched: its address is not one of the public Internet."
ONLY_HTTPS = "The URL cannot be fetched: only https is taken, as in https://host/page.png."
NOT_ALLOWED = (
    "URLs are not fetched here: send the file itself, or ask the operator to set "
    "CHATVLM_ALLOW_URLS."
)
NO_ANSWER = "The URL cannot be fetched: its host does not answer as it should."
Handler = Callable[[web.Request], web.StreamResponse]


class Host:
    """A TLS server on a loopback address. It records who has connected."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.requests: list[web.Request] = []

    @asynccontextmanager
    async def serving(self, answer: Handler, address: str = "127.0.0.1") -> AsyncIterator[str]:
        """Its URL."""

        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests.append(request)
            answered = answer(request)
            return await answered if asyncio.iscoroutine(answered) else answered

        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert(address, "localhost").configure_cert(tls)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        listening = socket.create_server((address, 0))
        site = web.SockSite(runner, listening, ssl_context=tls)
        await site.start()
        try:
            yield f"https://{address}:{listening.getsockname()[1]}"
        finally:
            await runner.cleanup()

    def fetcher(self, **settings) -> Fetcher:
        tls = ssl.create_default_context()
        self.authority.configure_trust(tls)
        return Fetcher(Settings(**{"allow_urls": True} | settings), tls)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def public(monkeypatch) -> None:
    """127.0.0.1 passes for an address of the Internet; what else is not one, is not one."""
    monkeypatch.setattr(
        fetching, "is_public", lambda address: address == "127.0.0.1" or is_public(address)
    )


async def refusal(fetcher: Fetcher, url: str) -> tuple[ErrorCode, str]:
    with pytest.raises(Refusal) as caught:
        await fetcher.fetch(url)
    return caught.value.code, caught.value.failure.detail


def page(request: web.Request) -> web.Response:
    return web.Response(body=picture())


def to(target: str) -> Handler:
    return lambda request: web.Response(status=302, headers={"Location": target})


@pytest.mark.usefixtures("public")
async def test_a_file_is_fetched_and_nothing_of_ours_is_sent_along(host):
    async with host.serving(page) as url:
        assert await host.fetcher().fetch(f"{url}/a.png") == picture()
    [request] = host.requests
    assert set(request.headers) == {"Host", "Accept", "Accept-Encoding", "User-Agent"}


@pytest.mark.usefixtures("public")
async def test_a_redirect_is_followed(host):
    def answer(request: web.Request) -> web.Response:
        return page(request) if request.path == "/b.png" else to("/b.png")(request)

    async with host.serving(answer) as url:
        assert await host.fetcher().fetch(f"{url}/a.png") == picture()


@pytest.mark.usefixtures("public")
async def test_unless_the_operator_allows_it_nobody_is_asked(host):
    async with host.serving(page) as url:
        asked = host.fetcher(allow_urls=False)
        assert await refusal(asked, url) == (ErrorCode.BAD_PARAMETER, NOT_ALLOWED)
    assert not Settings().allow_urls
    assert host.requests == []


@pytest.mark.parametrize("name", ["127.1", "2130706433", "0x7f000001", "127.0.0.1.", "０.0.0.0"])
async def test_no_other_spelling_of_its_address_leads_there(host, name):
    async with host.serving(page) as url:
        await refusal(host.fetcher(), url.replace("127.0.0.1", name))
    assert host.requests == []


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
async def test_a_server_on_this_machine_is_never_reached(host, name):
    async with host.serving(page) as url:
        own = url.replace("127.0.0.1", name)
        assert await refusal(host.fetcher(), own) == (ErrorCode.BAD_PARAMETER, NOT_PUBLIC)
    assert host.requests == []


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize(
    "target", ["https://127.0.0.2", "https://[::1]", "https://169.254.169.254/latest/meta-data/"]
)
async def test_nor_by_a_redirect(host, target):
    async with host.serving(to(target)) as url:
        assert await refusal(host.fetcher(), url) == (ErrorCode.BAD_PARAMETER, NOT_PUBLIC)


@pytest.mark.usefixtures("public")
async def test_nor_by_a_redirect_to_a_server_that_would_answer(host):
    other = Host()
    async with (
        other.serving(page, "127.0.0.2") as inner,
        host.serving(to(inner)) as url,
    ):
        assert await refusal(host.fetcher(), url) == (ErrorCode.BAD_PARAMETER, NOT_PUBLIC)
    assert other.requests == []


async def test_nor_by_a_name_that_changes_its_address_after_a_look(host, monkeypatch):
    """What a name means is looked up once, and what is then connected to is what is checked."""
    looked_up = []

    async def resolve(self, name, port=0, family=socket.AF_INET):
        looked_up.append(name)
        return [
            {
                "hostname": name,
                "host": "127.0.0.1",
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
        ]

    monkeypatch.setattr("aiohttp.resolver.DefaultResolver.resolve", resolve)
    async with host.serving(page) as url:
        named = url.replace("127.0.0.1", "pages.example.org")
        assert await refusal(host.fetcher(), named) == (ErrorCode.BAD_PARAMETER, NOT_PUBLIC)
    assert looked_up == ["pages.example.org"]
    assert host.requests == []


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("target", ["http://127.0.0.1/a.png", "file:///etc/passwd", "ftp://host/a"])
async def test_only_https_is_spoken_on_redirects_too(host, target):
    assert await refusal(host.fetcher(), target) == (ErrorCode.BAD_PARAMETER, ONLY_HTTPS)
    async with host.serving(to(target)) as url:
        assert await refusal(host.fetcher(), url) == (ErrorCode.BAD_PARAMETER, ONLY_HTTPS)


@pytest.mark.parametrize("url", ["", "page.png", "https://", "https://[", "https:///a.png"])
async def test_what_is_no_address_is_refused(host, url):
    assert await refusal(host.fetcher(), url) == (ErrorCode.BAD_PARAMETER, ONLY_HTTPS)


@pytest.mark.usefixtures("public")
async def test_redirects_come_to_an_end(host):
    async with host.serving(to("/again")) as url:
        assert await refusal(host.fetcher(), url) == (
            ErrorCode.BAD_IMAGE,
            "The URL cannot be fetched: it redirects more than 5 times.",
        )
    assert len(host.requests) == 6


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
async def test_an_error_of_the_host_is_told(host, status):
    async with host.serving(lambda request: web.Response(status=status)) as url:
        assert await refusal(host.fetcher(), url) == (
            ErrorCode.BAD_IMAGE,
            f"The URL cannot be fetched: its host answers {status}.",
        )


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("declared", [True, False])
async def test_a_file_over_the_limit_is_refused_while_it_arrives(host, declared):
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        response.content_length = 300 * MIB if declared else None
        await response.prepare(request)
        while sent < 300 * MIB:
            await response.write(bytes(MIB))
            sent += MIB
            await asyncio.sleep(0)
        return response

    async with host.serving(endless) as url:
        assert await refusal(host.fetcher(max_file_mib=1), url) == (
            ErrorCode.TOO_LARGE,
            "The file is larger than 1 MB.",
        )
    assert sent < 30 * MIB


@pytest.mark.usefixtures("public")
async def test_a_host_that_takes_its_time_is_left(host, monkeypatch):
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 0.2)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    async with host.serving(drip) as url:
        assert await refusal(host.fetcher(), url) == (
            ErrorCode.BAD_IMAGE,
            "The URL cannot be fetched: it took longer than 0.2 seconds.",
        )


@pytest.mark.usefixtures("public")
async def test_a_host_that_nobody_vouches_for_is_not_believed(host):
    async with host.serving(page) as url:
        other_host = Host().fetcher()
        assert await refusal(other_host, url) == (ErrorCode.BAD_IMAGE, NO_ANSWER)
    assert host.requests == []


@pytest.mark.usefixtures("public")
async def test_a_host_that_is_not_there_is_told(host):
    async with host.serving(page) as url:
        pass
    assert await refusal(host.fetcher(), url) == (ErrorCode.BAD_IMAGE, NO_ANSWER)


@pytest.mark.parametrize(
    "address",
    [
        *["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"],
        *["169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16"],
        *["192.0.0.192", "198.18.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255"],
        *["::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1"],
        *["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::", "2001::1"],
        *["64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "64:ff9b::a00:1", "::ffff:0:10.0.0.1"],
        *["fec0::1", "feff::1", "::10.0.0.1", "::ffff:169.254.169.254", "2002:a00:1::1"],
        *["2001:0:a00:1::1", "2001:0:4136:e378:8000:63bf:f5ff:fffe"],
    ],
)
def test_an_address_that_is_not_anybodys_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111"])
def test_an_address_of_the_internet_is_public(address):
    assert is_public(address)
