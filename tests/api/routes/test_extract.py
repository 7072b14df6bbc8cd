import json

import pytest

from common.messages import Answer, Usage
from tests.support.fakes.runner import data_url, picture
from tests.support.files.documents import pdf

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "date": {"type": ["string", "null"]}},
    "required": ["total", "date"],
    "additionalProperties": False,
}
MODEL = "qwen3_vl_2b"
FIELDS = ["data", "valid", "pages", "model", "processing_time"]


def answer(text: str, **more: object) -> Answer:
    fields = {"text": text, "image_size": (4, 3), "finish_reason": "stop", **more}
    return Answer.model_validate(fields)


async def extract(client, file: bytes | None = None, **data: str):
    files = {"file": file or picture()}
    return await client.post("/extract", files=files, data={"model": MODEL, **data})


async def test_data_that_fits_the_schema_is_answered(client, runners):
    usage = Usage(prompt_tokens=3, visual_tokens=2, completion_tokens=9)
    runners[MODEL].outcome = answer('{"total": 12.5, "date": null}', usage=usage)
    response = await extract(client, schema=json.dumps(SCHEMA))
    assert response.status_code == 200
    told = response.json()
    assert list(told) == [*FIELDS, "finish_reason", "usage"]
    assert told | {"processing_time": 0} == {
        "data": {"total": 12.5, "date": None},
        "valid": True,
        "pages": [1],
        "model": MODEL,
        "processing_time": 0,
        "finish_reason": "stop",
        "usage": usage.model_dump(),
    }


@pytest.mark.parametrize("text", ['"\\u007f"', '"\\u0000"', "1e2", "-0", "1.50"])
async def test_data_is_valid_however_its_text_is_written(client, runners, text):
    runners[MODEL].outcome = answer(text)
    schema = {"enum": ["\x7f", "\0"]} if text[0] == '"' else {"type": "number"}
    told = (await extract(client, schema=json.dumps(schema))).json()
    assert (told["data"], told["valid"]) == (json.loads(text), True)


async def test_the_model_is_held_to_the_schema_and_told_it(client, runners):
    runners[MODEL].outcome = answer("{}")
    await extract(client, schema=json.dumps(SCHEMA), max_tokens="77")
    [request] = runners[MODEL].requests
    assert json.loads(request.constraint.text) == SCHEMA
    assert (request.constraint.kind, request.constraint.lenient) == ("json", False)
    assert (request.temperature, request.max_tokens) == (0.0, 77)
    assert json.dumps(SCHEMA) in request.question


@pytest.mark.parametrize("fields", ["number, total", '["number", "total"]', "number,total,number"])
async def test_names_of_fields_are_texts_or_null(client, runners, fields):
    runners[MODEL].outcome = answer('{"number": "7", "total": null}')
    told = (await extract(client, fields=fields)).json()
    assert (told["data"], told["valid"]) == ({"number": "7", "total": None}, True)
    [request] = runners[MODEL].requests
    schema = json.loads(request.constraint.text)
    assert schema["required"] == ["number", "total"]
    assert schema["properties"]["total"] == {"type": ["string", "null"]}


async def test_a_json_body_holds_the_schema_as_it_is(client, runners):
    runners[MODEL].outcome = answer('{"total": 1, "date": null}')
    body = {"image": data_url(picture()), "model": MODEL}
    for more in ({"schema": SCHEMA}, {"fields": ["total", "date"]}):
        response = await client.post("/extract", json=body | more)
        assert response.status_code == 200
    first, second = runners[MODEL].requests
    assert json.loads(first.constraint.text) == SCHEMA
    assert list(json.loads(second.constraint.text)["properties"]) == ["total", "date"]


async def test_the_pages_of_a_document_are_shown_together(client, runners):
    runners[MODEL].outcome = answer('{"total": 1, "date": null}')
    told = (
        await extract(client, pdf(*[["Page"]] * 4), schema=json.dumps(SCHEMA), pages="2-3")
    ).json()
    assert told["pages"] == [2, 3]
    [request] = runners[MODEL].requests
    assert len(request.images) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [('{"total": 1, "da', "length"), ("no JSON", "stop"), ('{"total": 1e999}', "stop")],
)
async def test_what_is_no_json_is_not_valid(client, runners, text, reason):
    runners[MODEL].outcome = answer(text, finish_reason=reason)
    told = (await extract(client, schema=json.dumps(SCHEMA))).json()
    assert (told["data"], told["valid"], told["text"]) == (None, False, text)
    assert told["finish_reason"] == reason


async def test_json_that_does_not_fit_is_not_valid(client, runners):
    runners[MODEL].outcome = answer('{"total": null, "date": null}')
    told = (await extract(client, schema=json.dumps(SCHEMA))).json()
    assert (told["data"], told["valid"]) == ({"total": None, "date": None}, False)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "a JSON schema in 'schema', or names in 'fields'"),
        ({"schema": "{}", "fields": "a"}, "a JSON schema in 'schema', or names in 'fields'"),
        ({"schema": "{"}, "not valid JSON"),
        ({"schema": "[]"}, "has to be a JSON schema"),
        ({"schema": '{"items":' * 900 + "{}" + "}" * 900}, "not valid JSON"),
        ({"schema": '{"properties": {"a": {"type": "money"}}}'}, "at '/properties/a'"),
        ({"schema": '{"properties": {"a": {"not": {}}}}'}, "the keywords not"),
        ({"fields": ","}, "names with commas"),
        ({"fields": "[1]"}, "names with commas"),
        ({"fields": "a", "model": "got_ocr"}, "extracts no data"),
        ({"fields": "a", "pages": "9"}, "no page 9"),
        ({"fields": "a", "max_tokens": "0"}, "max_tokens"),
    ],
)
async def test_what_cannot_be_extracted_is_refused(client, runners, data, words):
    response = await extract(client, **data)
    assert response.status_code == 400
    assert words in response.json()["detail"]
    assert not any(runner.requests for runner in runners.values())
