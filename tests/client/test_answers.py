"""The client is installed without the service: here its fields are held to the service's."""

import pytest
from chatvlm_client import answers, calls

from api.intake import parameters
from api.schemas import native
from common import messages

NAMES = "ModelInfo Replica Models Done Page PageError Ocr Chat BatchItem BatchError Batch"


@pytest.mark.parametrize("name", NAMES.split())
def test_every_field_of_an_answer_has_its_place(name: str) -> None:
    assert set(getattr(answers, name).model_fields) == set(getattr(native, name).model_fields)


@pytest.mark.parametrize("name", ["Line", "Block", "Usage"])
def test_every_field_within_it_has_its_place(name: str) -> None:
    assert set(getattr(answers, name).model_fields) == set(getattr(messages, name).model_fields)


def test_health_has_every_field() -> None:
    assert answers.Health.__annotations__.keys() == native.Health.model_fields.keys()


def test_every_parameter_is_an_option() -> None:
    assert calls.OcrOptions.__annotations__.keys() == parameters.OcrParameters.model_fields.keys()
    asked = parameters.ChatParameters.model_fields.keys() - {"prompt", "stream"}
    assert calls.ChatOptions.__annotations__.keys() == asked
