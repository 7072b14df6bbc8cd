import pytest

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
        (ErrorCode.OUT_OF_MEMORY, 503),
        (ErrorCode.DEADLINE, 504),
        (ErrorCode.FAULT, 500),
    ],
)
def test_each_reason_has_the_status_of_the_contract(code, status):
    response = failure_response(Failure(code=code, detail="A sentence."), "/ocr")
    assert response.status_code == status
    assert response.body == b'{"detail":"A sentence."}'
    assert ("retry-after" in response.headers) == (status == 503)


def test_no_reason_is_without_a_status():
    assert set(STATUS) == set(ErrorCode)
