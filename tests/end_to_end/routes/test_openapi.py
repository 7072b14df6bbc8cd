"""Whatever the schema of the service allows, and some of what it does not, gets a fit answer."""

import base64
from typing import Any
from urllib.parse import urlencode

import hypothesis
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api.app import app
from tests.support.pages import ENGLISH, encode, render
from tests.support.server import Server

CHECKS: list = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
FILES = {"file", "files"}
PAGE = encode(render(ENGLISH[:1]))
DATA_URL = f"data:image/png;base64,{base64.b64encode(PAGE).decode()}"
SHOWN = {"type": "image_url", "image_url": {"url": DATA_URL}}


SCHEMA = schemathesis.openapi.from_dict(app.openapi())
SETTINGS = hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck))


def test_the_schema_is_served(reader: Server) -> None:
    assert reader.client.get("/openapi.json").json() == app.openapi()


@SCHEMA.parametrize()
@hypothesis.settings(SETTINGS, max_examples=40)
def test_no_request_is_answered_with_a_fault_or_against_the_schema(
    case: schemathesis.Case, reader: Server
) -> None:
    # A longer URL is refused before it reaches the service, as docs/clients.md has it.
    hypothesis.assume(len(urlencode(case.query)) < 60_000)
    case.call_and_validate(base_url=str(reader.client.base_url), checks=CHECKS)


@SCHEMA.include(method="POST").parametrize()
@hypothesis.settings(SETTINGS, max_examples=25)
def test_nor_is_one_whose_file_is_a_page(case: schemathesis.Case, reader: Server) -> None:
    form: dict[str, Any] = case.body if isinstance(case.body, dict) else {}
    form |= dict.fromkeys(FILES & set(form), PAGE)
    # No random name is a model's, and no two random values are the same.
    form.pop("model", None)
    if "messages" in form:
        said = [SHOWN, {"type": "text", "text": "What?"}]
        form |= {"model": "reader", "messages": [{"role": "user", "content": said}]}
    elif case.media_type == "application/json":
        form.pop("url", None)
        form["image"] = DATA_URL
    for name in ("model", *form):
        case.query.pop(name, None)
    case.call_and_validate(base_url=str(reader.client.base_url), checks=CHECKS)
