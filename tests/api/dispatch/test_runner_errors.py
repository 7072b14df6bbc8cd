import aiohttp
import pytest
from bentoml.exceptions import BentoMLException
from yarl import URL

from api.dispatch.runner_errors import RunnerLost, check_model, failures_as_refusals
from common.failures import ErrorCode, Refusal

NOT_REACHED = aiohttp.ConnectionTimeoutError("/tmp/x")
BROKEN = [aiohttp.ServerDisconnectedError(), ConnectionResetError("/tmp/x")]
FAULTS = [
    BentoMLException("Traceback: /home/x"),
    ValueError("not a reply"),
    aiohttp.ClientResponseError(
        aiohttp.RequestInfo(URL("http://runner"), "POST", {}), (), status=500
    ),
]


@pytest.mark.parametrize("error", FAULTS, ids=repr)
@pytest.mark.parametrize("may_have_started", [True, False])
def test_a_fault_of_the_runner_is_told_plainly_and_logged_if_it_worked(
    error, may_have_started, caplog
):
    with (
        pytest.raises(Refusal, match="the log says why") as refused,
        failures_as_refusals("got_ocr", may_have_started),
    ):
        raise error
    assert refused.value.code is ErrorCode.FAULT
    assert ("got_ocr failed" in caplog.text) == may_have_started


@pytest.mark.parametrize("error", BROKEN, ids=repr)
@pytest.mark.parametrize("may_have_started", [True, False])
def test_a_broken_connection_is_a_lost_runner(error, may_have_started):
    with pytest.raises(RunnerLost) as lost, failures_as_refusals("got_ocr", may_have_started):
        raise error
    assert lost.value.may_have_started == may_have_started
    assert lost.value.failure.retry_after


def test_a_runner_that_was_not_reached_has_not_started():
    with pytest.raises(RunnerLost) as lost, failures_as_refusals("got_ocr"):
        raise NOT_REACHED
    assert not lost.value.may_have_started


def test_a_refusal_passes_as_it_is():
    refusal = Refusal(ErrorCode.QUEUE_FULL, "Full.", 3)
    with pytest.raises(Refusal) as refused, failures_as_refusals("got_ocr"):
        raise refusal
    assert refused.value is refusal


@pytest.mark.parametrize("server", ["BentoML Service/got_ocr", "nginx", ""])
def test_an_answer_of_the_model_or_of_a_proxy_is_taken(server):
    check_model("got_ocr", server)


def test_a_runner_that_has_an_older_id_is_taken():
    check_model("reader", "BentoML Service/tesseract")


def test_an_answer_of_another_model_is_refused():
    with pytest.raises(Refusal, match="'dots_ocr' answers where CHATVLM_REMOTE has") as refused:
        check_model("got_ocr", "BentoML Service/dots_ocr")
    assert refused.value.code is ErrorCode.UNAVAILABLE
