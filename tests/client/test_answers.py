"""The client is installed without the service: here its fields are held to the service's."""

import pytest
from chatvlm_client import answers, calls

from api.intake import parameters
from api.schemas import extraction, guide
from common import messages

NAMES = "ModelInfo Replica Models Done Page PageError Ocr Chat BatchItem BatchError Batch"


@pytest.mark.parametrize("name", NAMES.split())
def test_answers_have_the_fields_of_the_service(name: str) -> None:
    assert set(getattr(answers, name).model_fields) == set(getattr(guide, name).model_fields)


@pytest.mark.parametrize("name", ["Line", "Block", "Usage"])
def test_parts_of_answers_have_the_fields_of_the_service(name: str) -> None:
    assert set(getattr(answers, name).model_fields) == set(getattr(messages, name).model_fields)


def test_health_has_the_fields_of_the_service() -> None:
    assert answers.Health.__annotations__.keys() == guide.Health.model_fields.keys()


def test_extracted_data_have_the_fields_of_the_service() -> None:
    assert answers.Extraction.model_fields.keys() >= extraction.Extraction.model_fields.keys()


def test_options_are_the_parameters_of_the_service() -> None:
    assert calls.OcrOptions.__annotations__.keys() == parameters.OcrParameters.model_fields.keys()
    asked = parameters.ChatParameters.model_fields.keys() - {"prompt", "stream"}
    assert calls.ChatOptions.__annotations__.keys() == asked
    asked = parameters.ExtractParameters.model_fields.keys() - {"json_schema", "fields"}
    assert calls.ExtractOptions.__annotations__.keys() == asked
