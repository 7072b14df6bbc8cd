"""Why a request is not answered: a value for both sides, and the exception that carries it."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class ErrorCode(StrEnum):
    BAD_IMAGE = "bad_image"
    BAD_PARAMETER = "bad_parameter"
    TOO_LARGE = "too_large"
    UNKNOWN_MODEL = "unknown_model"
    NOT_LOADED = "not_loaded"
    QUEUE_FULL = "queue_full"
    UNAVAILABLE = "unavailable"
    """The weights or the device are not there, or the runner is not."""
    LOADING = "loading"
    """The model is not loaded yet, or waits until another one is."""
    OUT_OF_MEMORY = "out_of_memory"
    DEADLINE = "deadline"
    FAULT = "fault"


class Failure(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    code: ErrorCode
    detail: str
    """One sentence for the person who reads it: no path, no library's message."""
    retry_after: int | None = None
    """Seconds after which another try makes sense."""


class Refusal(Exception):
    """Raised on either side of the wall where a request cannot be answered."""

    def __init__(self, code: ErrorCode, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.failure = Failure(code=code, detail=detail, retry_after=retry_after)

    @classmethod
    def of(cls, failure: Failure) -> "Refusal":
        """The exception that carries `failure`, whole."""
        refusal = Refusal(failure.code, failure.detail)
        refusal.failure = failure
        return refusal

    @property
    def code(self) -> ErrorCode:
        return self.failure.code
