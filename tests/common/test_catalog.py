import importlib.util
import inspect

import pytest

from common.catalog import CATALOG, DEFAULT_ON_CPU, DEFAULT_ON_GPU, current_id
from common.messages import Options
from runners.service import Engine, engine_of
from settings import Settings

ENTRIES = pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)


def test_the_defaults_are_in_the_catalog():
    assert CATALOG[DEFAULT_ON_GPU].repository
    assert CATALOG[DEFAULT_ON_CPU].is_embedded


def test_an_id_is_the_key_of_its_entry_and_can_name_a_service():
    for key, entry in CATALOG.items():
        assert entry.id == key
        assert key.isidentifier()


def test_an_older_id_leads_to_a_current_one():
    assert current_id("tesseract") == "reader"
    assert current_id("nonesuch") == "nonesuch"
    assert {current_id(model) for model in CATALOG} == CATALOG.keys()


@ENTRIES
def test_every_model_has_a_family_that_can_be_imported(entry):
    assert entry.is_embedded or importlib.util.find_spec(f"runners.families.{entry.family}")


@ENTRIES
def test_the_options_of_an_entry_are_options_of_a_request(entry):
    assert entry.options <= Options.model_fields.keys()


@ENTRIES
def test_only_the_embedded_reader_has_no_weights_to_download(entry):
    assert (entry.weights_gib > 0) == (entry.repository is not None) == (not entry.is_embedded)


@ENTRIES
def test_an_engine_answers_every_call_of_a_runner(entry):
    engines = {engine_of(entry, Settings())}
    if entry.converses and not entry.is_embedded:
        engines.add(engine_of(entry, Settings(upstream={entry.id: "http://host:8000/v1"})))
    for name, call in inspect.getmembers(Engine, inspect.isfunction):
        if not name.startswith("_"):
            expected = list(inspect.signature(call).parameters)
            for engine in engines:
                assert list(inspect.signature(getattr(engine, name)).parameters) == expected
