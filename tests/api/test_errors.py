import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse

from api.errors import STATUS, JSONErrors, error_response
from common.failures import ErrorCode, Failure
from tests.support.fake_runner import picture


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.BAD_IMAGE, 400),
        (ErrorCode.BAD_PARAMETER, 400),
        (ErrorCode.TOO_LARGE, 413),
        (ErrorCode.UNKNOWN_MODEL, 404),
        (ErrorCode.NOT_LOADED, 404),
        (ErrorCode.QUEUE_FULL, 503),
        (ErrorCode.UNAVAILABLE, 503),
        (ErrorCode.OUT_OF_MEMORY, 503),
        (ErrorCode.DEADLINE, 504),
        (ErrorCode.FAULT, 500),
    ],
)
def test_each_reason_has_the_status_of_the_contract(code, status):
    response = error_response(Failure(code=code, detail="A sentence."))
    assert response.status_code == status
    assert response.body == b'{"detail":"A sentence."}'
    assert ("retry-after" in response.headers) == (status == 503)


def test_no_reason_is_without_a_status():
    assert set(STATUS) == set(ErrorCode)


async def test_an_unknown_route_is_404(client):
    response = await client.get("/nowhere")
    assert (response.status_code, response.json()) == (
        404,
        {"detail": "There is no route '/nowhere'; see /docs."},
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/ocr"), ("POST", "/health"), ("PUT", "/chat"), ("GET", "/models/got_ocr")],
)
async def test_a_wrong_method_is_405_and_says_which_is_right(client, method, path):
    response = await client.request(method, path)
    assert (response.status_code, response.json()) == (
        405,
        {"detail": f"Route '{path}' does not take {method}; see /docs."},
    )
    assert response.headers["allow"]


async def test_a_fault_is_logged_and_answered_without_its_traceback(client, monkeypatch, caplog):
    async def broken(*_) -> None:
        raise ZeroDivisionError("/home/secret")

    monkeypatch.setattr("api.dispatch.fleet.Fleet.ask", broken)
    with caplog.at_level(logging.ERROR, "chatvlm.api"):
        response = await client.post("/ocr", files={"file": picture()})
    assert (response.status_code, response.json()) == (
        500,
        {"detail": "The service failed; its log says why."},
    )
    [record] = [record for record in caplog.records if record.name == "chatvlm.api"]
    assert record.getMessage() == "POST /ocr failed"
    assert record.exc_info[0] is ZeroDivisionError


@pytest.fixture
def plain() -> httpx.AsyncClient:
    """An app that answers errors in its own forms, behind `JSONErrors`."""

    async def refuses(request) -> None:
        raise HTTPException(503, "/home/secret", {"Retry-After": "3"})

    async def answers(request) -> PlainTextResponse:
        return PlainTextResponse("well")

    async def tells(request) -> JSONResponse:
        return JSONResponse({"detail": "A sentence."}, 400)

    app = Starlette()
    for name, handler in (("refuses", refuses), ("answers", answers), ("tells", tells)):
        app.add_route(f"/{name}", handler)
    transport = httpx.ASGITransport(JSONErrors(app))
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
    assert (response.status_code, response.json()) == (status, {"detail": detail})
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)


async def test_headers_of_such_an_error_stay(plain):
    assert (await plain.get("/refuses")).headers["retry-after"] == "3"
    assert "GET" in (await plain.post("/answers")).headers["allow"]


async def test_what_is_no_error_stays_as_it_is(plain):
    assert (await plain.get("/answers")).text == "well"
