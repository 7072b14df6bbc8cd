import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse

from api.middleware.bentoml_errors import BentomlErrors


@pytest.fixture
def plain() -> httpx.AsyncClient:
    """An app that answers errors in its own forms, behind `BentomlErrors`."""

    async def refuses(request) -> None:
        raise HTTPException(503, "/home/secret", {"Retry-After": "3"})

    async def answers(request) -> PlainTextResponse:
        return PlainTextResponse("well")

    async def tells(request) -> JSONResponse:
        return JSONResponse({"detail": "A sentence."}, 400)

    app = Starlette()
    for name, handler in (("refuses", refuses), ("answers", answers), ("tells", tells)):
        app.add_route(f"/{name}", handler)
    transport = httpx.ASGITransport(BentomlErrors(app))
    return httpx.AsyncClient(transport=transport, base_url="http://service")


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nowhere", 404, "There is no route '/nowhere'; see /docs."),
        ("POST", "/answers", 405, "Route '/answers' does not take POST; see /docs."),
        ("GET", "/refuses", 503, "The request was refused with status 503."),
        ("GET", "/tells", 400, "A sentence."),
    ],
)
async def test_errors_of_other_layers_get_the_form_of_ours(plain, method, path, status, detail):
    response = await plain.request(method, path)
    assert (response.status_code, response.json()["detail"]) == (status, detail)
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)


async def test_headers_of_such_an_error_stay(plain):
    assert (await plain.get("/refuses")).headers["retry-after"] == "3"
    assert "GET" in (await plain.post("/answers")).headers["allow"]


async def test_what_is_no_error_stays_as_it_is(plain):
    assert (await plain.get("/answers")).text == "well"
