import asyncio
from collections.abc import AsyncIterator

import pytest

from api.dispatch.fleet import Fleet
from api.dispatch.runner_errors import RESTART_SECONDS
from common.catalog import CATALOG
from common.failures import ErrorCode, Failure
from common.messages import Piece, Status
from settings import Settings
from tests.support.fakes.runner import Dies, Fails, FakeDependency, data_url, picture, until


def files() -> dict[str, bytes]:
    return {"file": picture()}


@pytest.mark.parametrize("asked", [{}, {"stream": "true"}])
async def test_a_runner_lost_at_work_is_unavailable_for_a_while(client, runners, asked):
    runners["reader"].outcome = Dies()
    response = await client.post("/chat", files=files(), params=asked)
    assert (response.status_code, response.json()["detail"]) == (
        503,
        "The runner of model 'reader' was lost while it worked on this; try again.",
    )
    assert response.headers["retry-after"] == str(RESTART_SECONDS)


@pytest.mark.parametrize("asked", [{}, {"stream": "true"}])
async def test_a_fault_of_a_runner_is_answered_with_a_plain_sentence(client, runners, asked):
    runners["reader"].outcome = Fails()
    response = await client.post("/chat", files=files(), params=asked)
    assert (response.status_code, response.json()["detail"]) == (
        500,
        "Model 'reader' failed on this request; the log says why.",
    )


@pytest.mark.parametrize("code", ErrorCode)
async def test_a_failure_of_a_runner_keeps_its_sentence(client, runners, code):
    runners["reader"].outcome = Failure(code=code, detail="A sentence.")
    response = await client.post("/ocr", files=files())
    assert response.status_code >= 400
    assert response.json()["detail"] == "A sentence."


async def test_a_runner_lost_in_the_middle_of_a_stream_ends_it_with_an_error(client, runners):
    runners["reader"].stream = [Piece(text="A "), Dies()]
    response = await client.post("/chat", files=files(), params={"stream": "true"})
    assert response.text == (
        'event: piece\ndata: {"text":"A "}\n\n'
        "event: error\n"
        'data: {"detail":"The runner of model \'reader\' was lost while it worked on this; '
        'try again.","code":"unavailable"}\n\n'
    )


@pytest.mark.parametrize(
    ("gpu", "named", "default"),
    [
        (None, None, "reader"),
        ("NVIDIA L4", None, "qwen3_vl_2b"),
        (None, "got_ocr", "got_ocr"),
        ("NVIDIA L4", "got_ocr", "got_ocr"),
    ],
)
async def test_without_a_name_the_default_model_answers(serve, gpu, named, default):
    response = await serve(gpu, default_model=named).post("/ocr", files=files())
    assert response.json()["model"] == default


@pytest.mark.parametrize(
    ("served", "default"),
    [(("dots_ocr", "reader"), "reader"), (("qwen_vl_7b", "dots_ocr"), "qwen_vl_7b")],
)
async def test_the_default_model_is_one_that_is_served(serve, runners, served, default):
    for model in runners.keys() - set(served):
        del runners[model]
    response = await serve("NVIDIA L4").post("/ocr", files=files())
    assert response.json()["model"] == default


@pytest.mark.parametrize("model", CATALOG)
async def test_a_model_asked_for_by_name_answers_itself(client, runners, model):
    response = await client.post("/ocr", files=files(), params={"model": model})
    assert response.json()["model"] == model
    assert [other for other, runner in runners.items() if runner.requests] == [model]


@pytest.mark.parametrize("route", ["/ocr", "/chat"])
async def test_a_model_asked_for_by_an_older_id_answers_under_it(client, runners, route):
    response = await client.post(route, files=files(), params={"model": "tesseract"})
    assert response.json()["model"] == "tesseract"
    streamed = await client.post(
        "/chat", files=files(), params={"model": "tesseract", "stream": "true"}
    )
    assert '"model":"tesseract"' in streamed.text
    assert len(runners["reader"].requests) == 2
    refused = await client.post(
        "/ocr", files=files(), params={"model": "tesseract", "box": "0,0,1,1"}
    )
    assert refused.json()["detail"] == "Model 'tesseract' does not take the parameter 'box'."


async def test_a_model_is_loaded_and_unloaded_by_an_older_id(client, runners):
    runners["reader"].status = Status(state="unloaded")
    loaded = await client.post("/models/tesseract")
    assert loaded.json()["message"] == "Model tesseract loaded"
    unloaded = await client.delete("/models/tesseract")
    assert unloaded.json()["message"] == "Model tesseract unloaded"
    assert runners["reader"].asked == ["load", "unload"]
    again = await client.delete("/models/tesseract")
    assert (again.status_code, again.json()["detail"]) == (
        404,
        "Model 'tesseract' is not loaded.",
    )


async def test_a_model_whose_runner_is_not_started_is_unavailable(serve, runners):
    del runners["got_ocr"]
    client = serve()
    detail = "Model 'got_ocr' is not served here: CHATVLM_MODELS leaves it out."
    response = await client.post("/ocr", files=files(), params={"model": "got_ocr"})
    assert (response.status_code, response.json()["detail"]) == (503, detail)
    assert "retry-after" not in response.headers
    models = (await client.get("/models")).json()["available"]
    assert (models[0]["state"], models[0]["reason"]) == ("unavailable", detail)


@pytest.mark.parametrize("route", ["/ocr", "/chat"])
async def test_an_unloaded_model_is_loaded_for_its_first_request(client, runners, route):
    runners["got_ocr"].status = Status(state="unloaded")
    response = await client.post(route, files=files(), params={"model": "got_ocr"})
    assert response.status_code == 200
    assert runners["got_ocr"].status.state == "loaded"


async def test_a_load_that_failed_keeps_no_request_from_another_try(client, runners):
    runners["got_ocr"].status = Status(state="unloaded", reason="Too little free memory.")
    models = (await client.get("/models")).json()["available"]
    assert (models[0]["state"], models[0]["reason"]) == ("unloaded", "Too little free memory.")
    response = await client.post("/ocr", files=files(), params={"model": "got_ocr"})
    assert response.status_code == 200
    assert runners["got_ocr"].asked == ["load", "answer"]


@pytest.mark.parametrize("asked", [{}, {"stream": "true"}])
@pytest.mark.parametrize("model", ["got_ocr", "dots_ocr"])
async def test_who_waits_in_vain_for_a_load_is_to_come_again(serve, runners, model, asked):
    runners["got_ocr"].may_load.clear()
    for runner in runners.values():
        runner.status = Status(state="unloaded")
    client = serve(request_timeout=0.2)
    load = asyncio.create_task(client.post("/models/got_ocr"))
    await until(lambda: runners["got_ocr"].asked)
    response = await client.post("/chat", files=files(), params={"model": model, **asked})
    assert (response.status_code, response.json()) == (
        503,
        {
            "detail": f"Model '{model}' cannot answer yet: model 'got_ocr' is still being loaded; "
            "try again.",
            "code": "loading",
        },
    )
    assert int(response.headers["retry-after"]) > 0
    runners["got_ocr"].may_load.set()
    assert (await load).status_code == 200


async def test_a_runner_too_busy_to_report_is_shown_with_its_last_status(client, runners):
    await client.get("/models")
    runners["got_ocr"].may_report_status.clear()
    assert "got_ocr" in (await client.get("/health")).json()["loaded_models"]


async def test_a_status_that_came_too_late_is_shown_to_the_next_who_asks(client, runners):
    runner = runners["got_ocr"]
    await client.get("/models")
    runner.may_report_status.clear()
    runner.status = Status(state="loading")
    assert (await client.get("/models")).json()["available"][0]["state"] == "loaded"
    runner.may_report_status.set()
    await asyncio.sleep(0.1)
    runner.may_report_status.clear()
    assert (await client.get("/models")).json()["available"][0]["state"] == "loading"


class TestReady:
    """Once all runners beside the gateway have started, and while any answers."""

    @pytest.fixture
    async def fleet(self, runners) -> AsyncIterator[Fleet]:
        beside = {model: FakeDependency(runners[model]) for model in ("got_ocr", "reader")}
        fleet = Fleet(beside, Settings(), has_gpu=False)
        fleet.open()
        yield fleet
        fleet.close()

    async def test_not_before_the_last_has_started(self, fleet, runners):
        runners["got_ocr"].may_report_status.clear()
        await until(lambda: fleet.unreachable == ["got_ocr"])
        assert not fleet.ready
        runners["got_ocr"].may_report_status.set()
        await until(lambda: fleet.ready)

    async def test_one_that_is_lost_later_leaves_the_others(self, fleet, runners):
        await until(lambda: fleet.ready)
        await runners["got_ocr"].stop()
        await until(lambda: fleet.unreachable == ["got_ocr"])
        assert fleet.ready
        await runners["reader"].stop()
        await until(lambda: len(fleet.unreachable) == 2)
        assert not fleet.ready


HUB_NAME = "Qwen/Qwen3-VL-2B-Instruct"


@pytest.mark.parametrize("route", ["/ocr", "/chat"])
@pytest.mark.parametrize("place", ["data", "params"])
async def test_a_form_may_name_a_model_as_on_the_hub(client, runners, route, place):
    response = await client.post(route, files=files(), **{place: {"model": HUB_NAME}})
    assert response.status_code == 200, response.text
    assert response.json()["model"] == HUB_NAME
    assert runners["qwen3_vl_2b"].asked == ["answer"]


async def test_a_batch_may_name_a_model_as_on_the_hub(client, runners):
    sent = [("files", picture()), ("files", picture())]
    response = await client.post("/batch/ocr", files=sent, data={"model": HUB_NAME})
    assert response.status_code == 200, response.text
    assert runners["qwen3_vl_2b"].asked == ["answer", "answer"]


async def test_a_completion_may_name_a_model_as_on_the_hub(client, runners):
    picture_part = {"type": "image_url", "image_url": {"url": data_url(picture())}}
    asked = {"model": HUB_NAME, "messages": [{"role": "user", "content": [picture_part]}]}
    response = await client.post("/v1/chat/completions", json=asked)
    assert response.status_code == 200, response.text
    assert response.json()["model"] == HUB_NAME
    assert runners["qwen3_vl_2b"].asked == ["answer"]


@pytest.mark.parametrize("written", [HUB_NAME, HUB_NAME.replace("/", "%2F")])
async def test_a_path_may_name_a_model_as_on_the_hub(client, runners, written):
    runner = runners["qwen3_vl_2b"]
    assert (await client.get(f"/v1/models/{written}")).json()["id"] == HUB_NAME
    assert (await client.delete(f"/models/{written}")).status_code == 200
    runner.status = Status(state="unloaded")
    assert (await client.post(f"/models/{written}")).status_code == 200
    assert runner.asked == ["unload", "load"]


@pytest.mark.parametrize("route", ["/models/{}", "/v1/models/{}"])
async def test_an_unknown_repository_is_an_unknown_model(client, route):
    method = client.get if route.startswith("/v1") else client.post
    response = await method(route.format("me/mine"))
    assert response.status_code == 404
    assert "Model 'me/mine' not found" in response.text


def test_settings_may_name_a_model_as_on_the_hub():
    assert Settings(models=(HUB_NAME,), preload=(HUB_NAME,)).models == ("qwen3_vl_2b",)


UPSTREAM = Status(state="loaded", device="upstream", is_upstream=True)
UPSTREAM_GONE = UPSTREAM.model_copy(update={"state": "unavailable", "reason": "It is off."})


async def test_a_model_of_a_server_of_its_own_is_neither_loaded_nor_unloaded(client, runners):
    runners["qwen3_vl_8b"].status = UPSTREAM
    loaded = await client.post("/models/qwen3_vl_8b")
    assert loaded.json()["message"] == (
        "Model qwen3_vl_8b runs on a server of its own, which has loaded it"
    )
    unloaded = await client.delete("/models/qwen3_vl_8b")
    assert (unloaded.status_code, unloaded.json()["code"]) == (404, "not_loaded")
    assert unloaded.json()["detail"] == (
        "Model 'qwen3_vl_8b' is not loaded here: it runs on a server of its own, which alone "
        "unloads it."
    )
    assert runners["qwen3_vl_8b"].asked == ["load"]
    health = (await client.get("/health")).json()
    assert "qwen3_vl_8b" in health["loaded_models"]


async def test_a_model_whose_server_does_not_answer_makes_the_service_degraded(client, runners):
    runners["qwen3_vl_8b"].status = UPSTREAM
    assert (await client.get("/health")).json()["status"] == "healthy"
    runners["qwen3_vl_8b"].status = UPSTREAM_GONE

    for _ in range(100):  # until the status has come
        health = (await client.get("/health")).json()
        if health["status"] != "healthy":
            break
        await asyncio.sleep(0.05)
    assert (health["status"], health["unreachable_models"]) == ("degraded", ["qwen3_vl_8b"])
    listed = (await client.get("/models")).json()["available"]
    (card,) = (model for model in listed if model["id"] == "qwen3_vl_8b")
    assert (card["state"], card["reason"]) == ("unavailable", "It is off.")
