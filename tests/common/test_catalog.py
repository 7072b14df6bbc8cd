import importlib.util
import inspect
from dataclasses import replace

import pytest

from common.catalog import (
    CATALOG,
    DEFAULT_ON_CPU,
    DEFAULT_ON_GPU,
    add_models,
    current_id,
    is_built_in,
)
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


@pytest.fixture
def mine():
    """A model that a file has added."""
    entry = replace(CATALOG["qwen3_vl_2b"], id="mine", repository="me/mine")
    add_models([entry])
    yield entry
    add_models([])


def test_a_model_may_be_named_as_on_the_hub(mine):
    assert current_id("Qwen/Qwen3-VL-2B-Instruct") == "qwen3_vl_2b"
    assert current_id("me/mine") == "mine"
    assert current_id("me/other") == "me/other"


def test_of_two_models_of_one_repository_the_first_has_its_name():
    add_models([replace(CATALOG["qwen3_vl_2b"], id="mine", revision="v2")])
    assert current_id("Qwen/Qwen3-VL-2B-Instruct") == "qwen3_vl_2b"
    add_models([])


def test_added_models_follow_those_of_the_service_and_give_way_to_others(mine):
    assert list(CATALOG)[-1] == "mine"
    add_models([replace(mine, id="other")])
    assert list(CATALOG)[-2:] == ["reader", "other"]
    add_models([])
    assert list(CATALOG)[-1] == "reader"


def test_ids_of_the_service_are_built_in(mine):
    assert is_built_in("reader")
    assert is_built_in("tesseract")
    assert not is_built_in("mine")
