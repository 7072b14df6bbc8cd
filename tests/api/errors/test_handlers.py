import logging

import fastapi
import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from api.errors import handlers
from tests.support.fakes.runner import picture


async def test_an_unknown_route_is_404(client):
    response = await client.get("/nowhere")
    assert response.status_code == 404
    assert response.json() == {
        "detail": "There is no route '/nowhere'; see /docs.",
        "code": "unknown_route",
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/ocr"), ("POST", "/health"), ("PUT", "/chat"), ("GET", "/models/got_ocr")],
)
async def test_a_wrong_method_is_405_and_says_which_is_right(client, method, path):
    response = await client.request(method, path)
    assert response.status_code == 405
    assert response.json() == {
        "detail": f"Route '{path}' does not take {method}; see /docs.",
        "code": "wrong_method",
    }
    assert response.headers["allow"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/ocr", "OPTIONS, POST"),
        ("/models", "GET, HEAD, OPTIONS"),
        ("/models/got_ocr", "DELETE, OPTIONS, POST"),
    ],
)
async def test_options_tells_the_methods_of_a_path(client, path, methods):
    response = await client.options(path)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == methods
    assert (await client.patch(path)).headers["allow"] == methods


async def test_options_of_an_unknown_path_is_404(client):
    assert (await client.options("/nowhere")).status_code == 404


async def test_a_fault_is_logged_and_answered_without_its_traceback(client, monkeypatch, caplog):
    async def broken(*_) -> None:
        raise ZeroDivisionError("/home/secret")

    monkeypatch.setattr("api.dispatch.fleet.Fleet.ask", broken)
    with caplog.at_level(logging.ERROR, handlers.__name__):
        response = await client.post("/ocr", files={"file": picture()})
    assert response.status_code == 500
    assert response.json() == {"detail": "The service failed; its log says why.", "code": "fault"}
    [record] = [record for record in caplog.records if record.name == handlers.__name__]
    assert record.getMessage() == "POST /ocr failed"
    assert record.exc_info[0] is ZeroDivisionError


async def answer_to(error: HTTPException, path: str = "/raises") -> httpx.Response:
    """What an app with the service's handlers answers where a route raises `error`."""
    app = FastAPI()
    handlers.install(app)

    @app.get(path)
    async def raises() -> None:
        raise error

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.get(path)


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (401, "Send an API key."),
        (404, "There is no job 'a'."),
        (405, "This job cannot be paused."),
        (499, "The client closed the request."),
    ],
)
async def test_the_detail_of_an_http_exception_is_answered_and_its_headers_kept(status, detail):
    response = await answer_to(HTTPException(status, detail, {"WWW-Authenticate": "Bearer"}))
    assert (response.status_code, response.json()["detail"]) == (status, detail)
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_detail_of_an_http_exception_is_answered_in_openais_form_too():
    response = await answer_to(HTTPException(401, "Send an API key."), "/v1/raises")
    assert response.json()["error"]["message"] == "Send an API key."
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (HTTPException(404), "There is no route '/raises'; see /docs."),
        (HTTPException(418), "The request was refused with status 418."),
        (fastapi.HTTPException(400, {"a": 1}), "The request was refused with status 400."),
    ],
)
async def test_an_http_exception_without_a_sentence_is_answered_with_one(error, detail):
    response = await answer_to(error)
    assert (response.status_code, response.json()["detail"]) == (error.status_code, detail)
