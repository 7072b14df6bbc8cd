import re

import pytest
from openapi_spec_validator import validate

from common.catalog import CATALOG
from common.messages import Options, Status
from tests.support.fakes.runner import picture

GUIDE = [
    {"id": "got_ocr", "name": "GOT-OCR 2.0", "params": "580M"},
    {"id": "qwen_vl_2b", "name": "Qwen2-VL 2B", "params": "2B"},
    {"id": "qwen_vl_7b", "name": "Qwen2-VL 7B", "params": "7B"},
    {"id": "qwen3_vl_2b", "name": "Qwen3-VL 2B", "params": "2B"},
    {"id": "qwen3_vl_4b", "name": "Qwen3-VL 4B", "params": "4B"},
    {"id": "qwen3_vl_8b", "name": "Qwen3-VL 8B", "params": "8B"},
    {"id": "dots_ocr", "name": "dots.ocr", "params": "1.7B"},
]
UNLOADED = Status(state="unloaded")


async def test_the_root_says_what_this_is(client):
    response = await client.get("/")
    assert response.json() == {
        "message": "ChatVLMLLM API",
        "version": "1.0.0",
        "docs": "/docs",
        "health": "/health",
    }


async def test_health_names_the_gpu_and_what_is_loaded(serve, runners):
    for model in runners.keys() - {"dots_ocr", "reader"}:
        runners[model].status = UNLOADED
    response = await serve(gpu="NVIDIA GeForce RTX 4090").get("/health")
    assert response.json() == {
        "status": "healthy",
        "gpu_available": True,
        "gpu_name": "NVIDIA GeForce RTX 4090",
        "models_loaded": 2,
        "loaded_models": ["dots_ocr", "reader"],
        "default_model": "qwen3_vl_2b",
        "unreachable_models": [],
    }


async def test_health_on_a_machine_without_a_gpu(client):
    health = (await client.get("/health")).json()
    assert (health["gpu_available"], health["gpu_name"]) == (False, None)
    assert health["default_model"] == "reader"


async def test_models_lists_the_seven_of_the_guide_in_its_order_and_then_the_reader(
    client, runners
):
    runners["got_ocr"].status = UNLOADED
    response = (await client.get("/models")).json()
    listed = [{key: model[key] for key in GUIDE[0]} for model in response["available"]]
    assert listed[: len(GUIDE)] == GUIDE
    assert [model["id"] for model in listed[len(GUIDE) :]] == ["reader"]
    assert response["loaded"] == [model["id"] for model in listed[1:]]
    assert response["default"] == "reader"


async def test_models_says_how_each_model_stands(client, runners):
    runners["got_ocr"].status = Status(state="unavailable", reason="Its weights are not here.")
    runners["dots_ocr"].status = Status(
        state="loaded", device="cuda:0", dtype="bfloat16", memory_bytes=1234, rows=2, queued=1
    )
    response = await client.get("/models")
    models = {model["id"]: model for model in response.json()["available"]}
    assert models["got_ocr"]["state"] == "unavailable"
    assert models["got_ocr"]["reason"] == "Its weights are not here."
    assert models["dots_ocr"].items() >= {
        ("state", "loaded"),
        ("reason", None),
        ("device", "cuda:0"),
        ("dtype", "bfloat16"),
        ("memory_bytes", 1234),
        ("rows", 2),
        ("queued", 1),
    }


async def test_models_says_which_parameters_each_takes_beside_those_of_all(client):
    listed = (await client.get("/models")).json()["available"]
    assert {model["id"]: model["options"] for model in listed if model["options"]} == {
        "got_ocr": ["box", "color", "formatted"],
        **{model: ["prompt"] for model in CATALOG if model.startswith("qwen")},
        "dots_ocr": ["mode", "prompt"],
        "reader": ["formatted", "mode"],
    }


async def test_a_loaded_model_is_unloaded_once(client, runners):
    first = await client.delete("/models/qwen3_vl_2b")
    assert (first.status_code, first.json()) == (
        200,
        {"status": "success", "message": "Model qwen3_vl_2b unloaded"},
    )
    assert runners["qwen3_vl_2b"].status == UNLOADED
    second = await client.delete("/models/qwen3_vl_2b")
    assert (second.status_code, second.json()["detail"]) == (
        404,
        "Model 'qwen3_vl_2b' is not loaded.",
    )


async def test_a_model_whose_runner_is_not_started_is_not_loaded(serve, runners):
    del runners["got_ocr"]
    response = await serve().delete("/models/got_ocr")
    assert response.status_code == 404


async def test_a_model_is_loaded(client, runners):
    runners["qwen3_vl_2b"].status = UNLOADED
    response = await client.post("/models/qwen3_vl_2b")
    assert (response.status_code, response.json()) == (
        200,
        {"status": "success", "message": "Model qwen3_vl_2b loaded"},
    )
    assert runners["qwen3_vl_2b"].status.state == "loaded"


async def test_an_unknown_model_cannot_be_loaded(client):
    response = await client.post("/models/invalid_model")
    assert (response.status_code, response.json()["detail"]) == (
        404,
        "Failed to load model: Model 'invalid_model' not found",
    )


async def test_an_unknown_model_cannot_be_unloaded(client):
    response = await client.delete("/models/invalid_model")
    assert (response.status_code, response.json()["detail"]) == (
        404,
        "Failed to load model: Model 'invalid_model' not found",
    )


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_the_documentation_loads_nothing_from_another_host(client, page):
    html = (await client.get(page)).text
    assert not re.search(r"(https?:)?//[\w.-]+\.\w+", html)
    own = re.findall(r'(?:src|href)="(/[^"]+)"', html)
    assert own
    for path in own:
        assert (await client.get(path)).status_code == 200


async def test_the_documentation_shows_no_picture_of_another_host(client):
    policy = (await client.get("/redoc")).headers["content-security-policy"]
    assert policy == "img-src 'self' data:"


async def test_the_schema_is_valid_openapi(client):
    schema = (await client.get("/openapi.json")).json()
    validate(schema)
    assert set(schema["paths"]) == {
        "/",
        "/health",
        "/ping",
        "/version",
        "/models",
        "/models/{model_name}",
        "/ocr",
        "/batch/ocr",
        "/chat",
        "/preview",
        "/extract",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/chat/completions",
    }


READING = {"model", "language", "pages", "text_layer", "max_tokens", *Options.model_fields}


@pytest.mark.parametrize(
    ("path", "file", "fields"),
    [
        ("/ocr", "file", READING),
        ("/batch/ocr", "files", READING),
        (
            "/chat",
            "file",
            {"model", "pages", "text_layer", "prompt", "temperature", "max_tokens", "stream"},
        ),
    ],
)
async def test_the_schema_shows_each_parameter_as_form_field_and_in_the_query(
    client, path, file, fields
):
    operation = (await client.get("/openapi.json")).json()["paths"][path]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} == fields
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {file, *fields}
    assert form["required"] == [file]
    json = operation["requestBody"]["content"].get("application/json")
    assert json is None or set(json["schema"]["properties"]) == {"image", "url", *fields}
    assert (json is None) == (file == "files")
    assert set(operation["responses"]) == {"200", "400", "404", "413", "415", "500", "503", "504"}


async def test_the_schema_has_no_answer_that_the_service_never_gives(client):
    schema = (await client.get("/openapi.json")).json()
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert "422" not in operation["responses"]
    assert not any("ValidationError" in name for name in schema["components"]["schemas"])


@pytest.mark.parametrize("path", ["/ocr", "/chat"])
async def test_what_the_schema_promises_is_what_is_answered(client, path):
    schema = (await client.get("/openapi.json")).json()
    content = schema["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    promised = schema["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    answer = (await client.post(path, files={"file": picture()})).json()
    assert answer.keys() <= promised["properties"].keys()
    assert set(promised["required"]) == answer.keys()


async def test_the_version_and_a_sign_of_life_are_told(client):
    assert (await client.get("/version")).json() == {"version": "1.0.0"}
    ping = await client.get("/ping")
    assert (ping.status_code, ping.content) == (200, b"")
    described = (await client.get("/openapi.json")).json()["paths"]["/ping"]["get"]
    assert "content" not in described["responses"]["200"]
