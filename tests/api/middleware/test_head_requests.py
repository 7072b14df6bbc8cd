import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from api.middleware.head_requests import HeadRequests


@pytest.fixture
def client() -> httpx.AsyncClient:
    async def shows(request) -> PlainTextResponse:
        return PlainTextResponse("well", headers={"X-Mark": "1"})

    app = Starlette()
    app.add_route("/shows", shows, methods=["GET"])
    app.add_route("/takes", shows, methods=["POST"])
    for route in app.routes:
        route.methods.discard("HEAD")  # Starlette's own routes take it, FastAPI's do not
    transport = httpx.ASGITransport(HeadRequests(app))
    return httpx.AsyncClient(transport=transport, base_url="http://service")


async def test_head_is_answered_as_get_without_the_body(client):
    got, head = await client.get("/shows"), await client.head("/shows")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == got.headers


@pytest.mark.parametrize(("path", "status"), [("/takes", 405), ("/nowhere", 404)])
async def test_head_of_what_get_does_not_show_is_the_same_error(client, path, status):
    assert (await client.head(path)).status_code == status


async def test_other_methods_keep_their_body(client):
    assert (await client.post("/takes")).text == "well"
