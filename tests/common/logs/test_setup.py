"""The log of a process, as `configure` sets it up on BentoML's handlers."""

import io
import json
import logging
import re

import pytest
from bentoml._internal.log import TraceRecordFilter

from common.logs import request_ids
from common.logs.setup import configure


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to a handler like BentoML's, on the root logger."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(TraceRecordFilter())
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(logging.getLogger("bentoml"), "handlers", [])
    return stream


def test_text_has_the_message_and_its_fields(written: io.StringIO) -> None:
    configure(as_json=False)
    logging.getLogger("api.somewhere").info("Told", extra={"status": 200, "reason": "Too long."})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[INFO\] \[\w*\] Told status=200 "
        r"reason='Too long\.'\n",
        written.getvalue(),
    )


def test_json_is_one_object_a_line(written: io.StringIO) -> None:
    configure(as_json=True)
    logging.getLogger("runners.x").warning("Слово\nи дело", extra={"pages": 2})
    [line] = written.getvalue().splitlines()
    told = json.loads(line)
    assert (told["message"], told["level"], told["pages"]) == ("Слово\nи дело", "WARNING", 2)
    assert set(told) == {"time", "level", "component", "logger", "message", "pages"}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_line_names_the_request_that_it_is_about(written: io.StringIO, as_json: bool) -> None:
    configure(as_json)
    token = request_ids.current.set("abc")
    logging.getLogger("api.x").info("Inside")
    request_ids.current.reset(token)
    logging.getLogger("api.x").info("Outside")
    inside, outside = written.getvalue().splitlines()
    assert ('"request_id": "abc"' if as_json else "request_id=abc") in inside
    assert "request_id" not in outside


def test_a_value_cannot_begin_a_line_of_its_own(written: io.StringIO) -> None:
    configure(as_json=False)
    logging.getLogger("api.x").info("Told", extra={"reason": "one\nINFO forged"})
    assert len(written.getvalue().splitlines()) == 1


def test_an_exception_is_written_whole(written: io.StringIO) -> None:
    configure(as_json=True)
    try:
        raise ZeroDivisionError("by nought")
    except ZeroDivisionError:
        logging.getLogger("api.x").exception("Failed")
    assert "ZeroDivisionError: by nought" in json.loads(written.getvalue())["exc_info"]


def test_what_libraries_inform_of_is_left_out(written: io.StringIO) -> None:
    configure(as_json=False)
    logging.getLogger("some_library").info("Chatter")
    assert written.getvalue() == ""
