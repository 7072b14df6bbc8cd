import asyncio

import aiohttp
import pytest
from bentoml.exceptions import BentoMLException, InternalServerError

from api.fleet import RESTART_SECONDS
from runners.catalog import CATALOG
from runners.messages import Failure, Piece, Status, Why
from tests.api.fakes import picture

LOST = [
    aiohttp.ClientConnectionError("Cannot connect to unix:///tmp/x"),
    aiohttp.ServerDisconnectedError(),
    ConnectionResetError("/tmp/x"),
]
FAULTS = [BentoMLException("Traceback: /home/x"), InternalServerError("/home/x")]


def files() -> dict[str, bytes]:
    return {"file": picture()}


@pytest.mark.parametrize("route", ["/ocr", "/chat"])
@pytest.mark.parametrize("error", LOST, ids=repr)
async def test_a_lost_runner_is_said_to_restart(client, runners, route, error):
    runners["tesseract"].outcome = error
    response = await client.post(route, files=files())
    assert (response.status_code, response.json()) == (
        503,
        {"detail": "The runner of model 'tesseract' was lost and is restarting; try again."},
    )
    assert response.headers["retry-after"] == str(RESTART_SECONDS)


@pytest.mark.parametrize("error", FAULTS, ids=repr)
async def test_a_fault_of_a_runner_is_answered_with_a_plain_sentence(client, runners, error):
    runners["tesseract"].outcome = error
    response = await client.post("/ocr", files=files())
    assert (response.status_code, response.json()) == (
        500,
        {"detail": "Model 'tesseract' failed on this request; the log says why."},
    )


@pytest.mark.parametrize("why", Why)
async def test_a_failure_of_a_runner_keeps_its_sentence(client, runners, why):
    runners["tesseract"].outcome = Failure(why=why, detail="A sentence.")
    response = await client.post("/ocr", files=files())
    assert response.status_code >= 400
    assert response.json() == {"detail": "A sentence."}


async def test_a_stream_from_a_runner_that_is_not_there_is_said_to_restart(
    client, runners, tmp_path
):
    runners["tesseract"].url = f"file://{tmp_path}/nobody.sock"
    response = await client.post("/chat", files=files(), params={"stream": "true"})
    assert (response.status_code, response.headers["retry-after"]) == (503, str(RESTART_SECONDS))


async def test_a_runner_lost_in_the_middle_of_a_stream_ends_it_with_an_error(
    client, runners, tmp_path
):
    async with runners["tesseract"].streaming(tmp_path, Piece(text="A "), None):
        response = await client.post("/chat", files=files(), params={"stream": "true"})
    assert response.text == (
        'event: piece\ndata: {"text":"A "}\n\n'
        "event: error\n"
        'data: {"detail":"The runner of model \'tesseract\' was lost and is restarting; '
        'try again."}\n\n'
    )


@pytest.mark.parametrize(
    ("gpu", "named", "default"),
    [
        (None, None, "tesseract"),
        ("NVIDIA L4", None, "qwen3_vl_2b"),
        (None, "got_ocr", "got_ocr"),
        ("NVIDIA L4", "got_ocr", "got_ocr"),
    ],
)
async def test_without_a_name_the_default_model_answers(serve, gpu, named, default):
    response = await serve(gpu, default_model=named).post("/ocr", files=files())
    assert response.json()["model"] == default


@pytest.mark.parametrize("model", CATALOG)
async def test_a_model_asked_for_by_name_answers_itself(client, runners, model):
    response = await client.post("/ocr", files=files(), params={"model": model})
    assert response.json()["model"] == model
    assert [other for other, runner in runners.items() if runner.requests] == [model]


async def test_a_model_whose_runner_is_not_started_is_unavailable(client, runners):
    del runners["got_ocr"]
    detail = "Model 'got_ocr' is not served here: CHATVLM_MODELS leaves it out."
    response = await client.post("/ocr", files=files(), params={"model": "got_ocr"})
    assert (response.status_code, response.json()) == (503, {"detail": detail})
    assert int(response.headers["retry-after"]) > 0
    models = (await client.get("/models")).json()["available"]
    assert (models[0]["state"], models[0]["reason"]) == ("unavailable", detail)


@pytest.mark.parametrize("route", ["/ocr", "/chat"])
async def test_an_unloaded_model_is_loaded_for_its_first_request(client, runners, route):
    runners["got_ocr"].standing = Status(state="unloaded")
    response = await client.post(route, files=files(), params={"model": "got_ocr"})
    assert response.status_code == 200
    assert runners["got_ocr"].standing.state == "loaded"


async def test_a_lost_runner_is_listed_as_unavailable_and_the_others_as_they_are(client, runners):
    runners["got_ocr"].standing = aiohttp.ClientConnectionError()
    response = await client.get("/models")
    assert response.status_code == 200
    states = {model["id"]: model["state"] for model in response.json()["available"]}
    assert states == dict.fromkeys(CATALOG, "loaded") | {"got_ocr": "unavailable"}


async def test_a_runner_too_busy_to_say_how_it_stands_is_shown_as_it_was(client, runners):
    async def silence() -> Status:
        return await asyncio.Event().wait()

    await client.get("/models")
    runners["got_ocr"].status = silence
    assert "got_ocr" in (await client.get("/health")).json()["loaded_models"]


async def test_what_a_busy_runner_said_too_late_is_shown_to_the_next_who_asks(client, runners):
    said = asyncio.Event()

    async def late() -> Status:
        await said.wait()
        return Status(state="loading")

    await client.get("/models")
    runners["got_ocr"].status = late
    await client.get("/models")
    said.set()
    runners["got_ocr"].status = asyncio.Event().wait
    listed = (await client.get("/models")).json()["available"]
    assert listed[0]["state"] == "loading"
