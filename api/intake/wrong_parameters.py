"""The refusal of a wrong parameter, and the sentence about it."""

from pydantic_core import ErrorDetails

from common.failures import ErrorCode, Refusal

SHOWN_VALUE_LENGTH = 100
"""Characters of a wrong value that are repeated in the sentence about it."""


class BadParameter(Refusal):
    """Refusal of a parameter, with its name for the field `param` of OpenAI's errors."""

    def __init__(self, param: str | None, detail: str) -> None:
        super().__init__(ErrorCode.BAD_PARAMETER, detail)
        self.param = param


def validation_sentence(error: ErrorDetails) -> str:
    """One sentence for a validation error: which parameter is wrong, why, and its value."""
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"Parameter '{name}' is required."
    value = str(error["input"])
    if len(value) > SHOWN_VALUE_LENGTH:
        value = value[:SHOWN_VALUE_LENGTH] + "…"
    problem = error["msg"].removeprefix("Value error, ").lower()
    return f"Parameter '{name}': {problem}, got '{value}'."
