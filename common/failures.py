"""Says why a request is not answered: a `Failure`, and the exception `Refusal` that carries it."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class ErrorCode(StrEnum):
    """What kind of reason it is; `api/errors/bodies.py` has the HTTP status of each."""

    BAD_IMAGE = "bad_image"
    """The file is not a readable image or document."""
    BAD_PARAMETER = "bad_parameter"
    """A parameter is wrong, or the model does not have it."""
    TOO_LARGE = "too_large"
    """The file, the image or the document is over a limit."""
    UNKNOWN_MODEL = "unknown_model"
    """There is no model of this name."""
    NOT_LOADED = "not_loaded"
    """The model that is to be unloaded is not loaded."""
    QUEUE_FULL = "queue_full"
    """Too many other requests wait."""
    UNAVAILABLE = "unavailable"
    """The weights or the device are not there, or the runner is not."""
    LOADING = "loading"
    """The model is not loaded yet, or waits until another one is."""
    OUT_OF_MEMORY = "out_of_memory"
    """The device has too little memory for the request."""
    DEADLINE = "deadline"
    """The request's time limit has passed."""
    UNKNOWN_ROUTE = "unknown_route"
    """There is no route of this path."""
    WRONG_METHOD = "wrong_method"
    """The route does not take this HTTP method."""
    UNSUPPORTED_TYPE = "unsupported_type"
    """The route does not take a body of this content type, or in this encoding."""
    FAULT = "fault"
    """The service or the model has failed; the log says why."""


class Failure(BaseModel):
    """Why a request was not answered, as one process tells it to another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: ErrorCode
    detail: str
    """One sentence for the person who reads it: no path, no library's message."""
    retry_after: int | None = None
    """Seconds after which another try makes sense."""


class Refusal(Exception):
    """Raised in the gateway or in a runner if a request cannot be answered."""

    def __init__(self, code: ErrorCode, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.failure = Failure(code=code, detail=detail, retry_after=retry_after)

    @classmethod
    def of(cls, failure: Failure) -> "Refusal":
        """The exception that carries the whole of `failure`."""
        refusal = Refusal(failure.code, failure.detail)
        refusal.failure = failure
        return refusal

    @property
    def code(self) -> ErrorCode:
        return self.failure.code
