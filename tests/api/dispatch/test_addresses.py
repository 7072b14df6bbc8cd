import asyncio
import socket

import pytest

from api.dispatch.addresses import Addresses

FOUR = (socket.AF_INET, 1, 6, "", ("10.0.0.1", 3000))
OTHER_FOUR = (socket.AF_INET, 1, 6, "", ("10.0.0.2", 3000))
SIX = (socket.AF_INET6, 1, 6, "", ("fd00::1", 3000, 0, 0))


@pytest.fixture
async def resolved(monkeypatch) -> list:
    """What every name resolves to; an exception in it is raised."""
    answers: list = []

    async def resolve(host, port, **_) -> list:
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    return answers


@pytest.mark.parametrize(
    ("answers", "urls"),
    [
        ([], set()),
        ([FOUR, OTHER_FOUR], {"http://10.0.0.1:3000", "http://10.0.0.2:3000"}),
        ([SIX], {"http://[fd00::1]:3000"}),
        ([SIX, FOUR], {"http://10.0.0.1:3000"}),
    ],
)
async def test_a_name_stands_for_its_addresses_in_one_family(resolved, answers, urls):
    resolved[:] = answers
    assert await Addresses(["http://runners:3000"]).look_up() == urls


async def test_the_addresses_of_all_urls_are_found(resolved):
    resolved[:] = [FOUR]
    assert await Addresses(["http://one:3000", "http://two:3000"]).look_up() == {
        "http://10.0.0.1:3000"
    }


async def test_a_name_that_is_gone_has_none_but_a_broken_resolver_takes_none_away(resolved):
    addresses = Addresses(["http://runners:3000"])
    resolved[:] = [FOUR]
    known = await addresses.look_up()
    resolved[:] = [socket.gaierror(socket.EAI_AGAIN, "try again")]
    assert await addresses.look_up() == known
    resolved[:] = [socket.gaierror(socket.EAI_NONAME, "no such name")]
    assert await addresses.look_up() == set()
