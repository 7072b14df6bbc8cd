from common.failures import ErrorCode, Failure, Refusal


def test_a_refusal_is_made_of_a_failure_without_loss():
    failure = Failure(code=ErrorCode.QUEUE_FULL, detail="Too many wait.", retry_after=7)
    refusal = Refusal.of(failure)
    assert refusal.failure == failure
    assert (refusal.code, str(refusal)) == (ErrorCode.QUEUE_FULL, "Too many wait.")
