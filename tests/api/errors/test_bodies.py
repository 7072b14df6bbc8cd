import json

import pytest
from starlette.datastructures import Headers

from api.errors.bodies import STATUS, failure_response
from common.failures import ErrorCode, Failure


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
        (ErrorCode.LOADING, 503),
        (ErrorCode.OUT_OF_MEMORY, 503),
        (ErrorCode.DEADLINE, 504),
        (ErrorCode.UNKNOWN_ROUTE, 404),
        (ErrorCode.WRONG_METHOD, 405),
        (ErrorCode.UNSUPPORTED_TYPE, 415),
        (ErrorCode.FAULT, 500),
    ],
)
def test_each_reason_has_the_status_of_the_contract_and_its_word(code, status):
    response = failure_response(Failure(code=code, detail="A sentence."), "/ocr")
    assert response.status_code == status
    assert json.loads(response.body) == {"detail": "A sentence.", "code": code.value}


def test_what_time_mends_has_a_retry_after_and_what_an_operator_mends_has_none():
    def headers(**pause: int) -> Headers:
        failure = Failure(code=ErrorCode.UNAVAILABLE, detail="A sentence.", **pause)
        return failure_response(failure, "/ocr").headers

    assert headers(retry_after=3)["retry-after"] == "3"
    assert "retry-after" not in headers()


@pytest.mark.parametrize(
    ("path", "openai"),
    [("/v1", True), ("/v1/", True), ("/v1/models", True), ("/v10", False), ("/ocr/v1", False)],
)
def test_openais_form_is_that_of_v1_and_of_what_is_below_it(path, openai):
    failure = Failure(code=ErrorCode.BAD_PARAMETER, detail="A sentence.")
    told = {"message": "A sentence.", "type": "invalid_request_error", "code": "bad_parameter"}
    body = json.loads(failure_response(failure, path).body)
    assert body == (
        {"error": {**told, "param": None}}
        if openai
        else {"detail": "A sentence.", "code": "bad_parameter"}
    )


def test_no_reason_is_without_a_status():
    assert set(STATUS) == set(ErrorCode)
