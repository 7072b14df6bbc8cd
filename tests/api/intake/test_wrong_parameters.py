import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from api.intake.wrong_parameters import SHOWN_VALUE_LENGTH, validation_sentence


class Form(BaseModel):
    count: int = Field(ge=1)
    names: list[str] = []

    @field_validator("names")
    @classmethod
    def _no_empty_name(cls, names: list[str]) -> list[str]:
        if "" in names:
            raise ValueError("needs names")
        return names


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({}, "Parameter 'count' is required."),
        ({"count": 0}, "Parameter 'count': input should be greater than or equal to 1, got '0'."),
        ({"count": 1, "names": [""]}, "Parameter 'names': needs names, got '['']'."),
        (
            {"count": 1, "names": ["a", 2]},
            "Parameter 'names.1': input should be a valid string, got '2'.",
        ),
    ],
)
def test_the_sentence_says_which_parameter_is_wrong_why_and_its_value(sent, sentence):
    with pytest.raises(ValidationError) as caught:
        Form.model_validate(sent)
    assert validation_sentence(caught.value.errors()[0]) == sentence


def test_a_long_value_is_cut():
    with pytest.raises(ValidationError) as caught:
        Form.model_validate({"count": "9" * 50 + "x" * 100})
    sentence = validation_sentence(caught.value.errors()[0])
    assert sentence.endswith("9" * 50 + "x" * (SHOWN_VALUE_LENGTH - 50) + "…'.")
