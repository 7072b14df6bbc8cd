"""The client is installed without the service: here its fields are held to the service's."""

import pytest

from api import params, schemas
from client import answers, calls
from runners import messages

NAMES = "ModelInfo Replica Models Done Page PageError Ocr Chat BatchItem BatchError Batch"


@pytest.mark.parametrize("name", NAMES.split())
def test_every_field_of_an_answer_has_its_place(name: str) -> None:
    assert set(getattr(answers, name).model_fields) == set(getattr(schemas, name).model_fields)


@pytest.mark.parametrize("name", ["Line", "Block", "Usage"])
def test_every_field_within_it_has_its_place(name: str) -> None:
    assert set(getattr(answers, name).model_fields) == set(getattr(messages, name).model_fields)


def test_health_has_every_field() -> None:
    assert answers.Health.__annotations__.keys() == schemas.Health.model_fields.keys()


def test_every_parameter_is_an_option() -> None:
    assert calls.OcrOptions.__annotations__.keys() == params.OcrParams.model_fields.keys()
    own = {"prompt", "stream"}
    assert calls.ChatOptions.__annotations__.keys() == params.ChatParams.model_fields.keys() - own
