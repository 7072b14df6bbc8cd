"""The requests that the calls build, and how their answers are parsed."""

import json
from pathlib import Path

import httpx
import pytest
from chatvlm_client import ChatVLMError, calls

from tests.support.fakes.service import OCR


def test_an_option_is_sent_as_the_text_of_a_form_field() -> None:
    call = calls.read(b"page", {"box": (1, 2, 3, 4), "formatted": True, "model": "got_ocr"})
    assert (call.method, call.path) == ("POST", "/ocr")
    assert call.data == {"box": "1,2,3,4", "formatted": "true", "model": "got_ocr"}


def test_an_option_that_is_none_is_left_out() -> None:
    assert calls.read(b"page", {"language": None}).data == {}


def test_unknown_options_are_named() -> None:
    with pytest.raises(TypeError, match=r"Unknown option 'colour' and 'langauge'\."):
        calls.read(b"page", {"langauge": "ru", "colour": "red"})  # type: ignore[typeddict-unknown-key]


def test_a_file_keeps_its_name_and_bytes_get_one(tmp_path: Path) -> None:
    scan = tmp_path / "scan.png"
    scan.write_bytes(b"a page")
    call = calls.batch([scan, b"bytes"], {})
    assert call.files == [("files", ("scan.png", b"a page")), ("files", ("file", b"bytes"))]


def test_only_a_stream_is_asked_for_as_one() -> None:
    assert calls.ask(b"page", "What?", {}).data == {"prompt": "What?"}
    assert calls.ask(b"page", "What?", {}, stream=True).data == {
        "prompt": "What?",
        "stream": "true",
    }


def test_a_models_id_is_quoted_in_the_path() -> None:
    assert calls.load("a/b c").path == "/models/a%2Fb%20c"
    assert calls.unload("a?b").path == "/models/a%3Fb"


def response(**json: object) -> httpx.Response:
    return httpx.Response(200, json=json, request=httpx.Request("POST", "http://service/ocr"))


def test_an_answer_is_parsed_to_its_type() -> None:
    assert calls.read(b"page", {}).parse(response(**OCR)).text == "Minutes"


def test_an_answer_of_another_service_is_an_error() -> None:
    with pytest.raises(ChatVLMError, match="did not answer like a ChatVLMLLM service"):
        calls.read(b"page", {}).parse(response(hello="world"))


def test_data_are_asked_for_by_a_schema_or_by_names() -> None:
    schema = {"type": "object", "properties": {"a": {"const": None}}}
    call = calls.extract(b"page", schema, {"pages": "1-2"})
    assert call.data == {"pages": "1-2", "schema": json.dumps(schema)}
    assert calls.extract(b"page", ["Дата", "a, b"], {}).data == {"fields": '["Дата", "a, b"]'}


def test_text_layers_are_asked_for_when_reading_and_asking() -> None:
    assert calls.read(b"page", {"text_layer": "auto"}).data == {"text_layer": "auto"}
    asked = calls.ask(b"page", "What?", {"text_layer": "auto"}).data
    assert asked == {"prompt": "What?", "text_layer": "auto"}
