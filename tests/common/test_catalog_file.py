import math
from dataclasses import fields
from pathlib import Path

import pytest

from common.catalog import CATALOG, UNSAID, SamplingParameters
from common.catalog_file import ListedModel, ListedSampling, read_catalog

QWEN = {"id": "mine", "family": "qwen_vl", "repository": "me/mine"}


def text_of(*models: dict) -> str:
    def value(one: object) -> str:
        if isinstance(one, dict):
            return "{" + ", ".join(f"{name} = {value(part)}" for name, part in one.items()) + "}"
        return f'"{one}"' if isinstance(one, str) else str(one)

    return "\n".join(
        "[[models]]\n" + "".join(f"{name} = {value(one)}\n" for name, one in model.items())
        for model in models
    )


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "models.toml"


def read(file: Path, *models: dict):
    file.write_text(text_of(*models))
    return read_catalog(file)


def test_a_model_has_what_its_family_has(file):
    (entry,) = read(file, QWEN)
    known = CATALOG["qwen_vl_2b"]
    assert (entry.id, entry.name, entry.repository) == ("mine", "me/mine", "me/mine")
    assert (entry.max_images, entry.converses) == (known.max_images, known.converses)
    assert entry.options == known.options
    assert (entry.revision, entry.folder) == (None, None)
    assert (entry.max_pixels, entry.reading_tokens) == (known.max_pixels, known.reading_tokens)
    assert entry.sampling == UNSAID
    assert (entry.params, entry.weights_gib) == ("unknown", 0)
    (reads,) = read(file, {"id": "got", "family": "got_ocr", "folder": "got"})
    assert reads.options == CATALOG["got_ocr"].options
    assert reads.sampling == CATALOG["got_ocr"].sampling != UNSAID
    assert not reads.converses


def test_every_field_is_taken(file):
    given = {
        "name": "Mine, 4 bits",
        "folder": "weights/mine",
        "revision": "v2",
        "params": "7B",
        "weights_gib": 5,
        "max_images": 3,
        "max_pixels": 200_000,
        "reading_tokens": 9000,
        "sampling": {"temperature": 1, "top_p": 0.5},
    }
    (entry,) = read(file, QWEN | given)
    assert given.keys() | QWEN.keys() == ListedModel.model_fields.keys()
    assert entry.folder == file.parent / "weights" / "mine"
    assert (entry.name, entry.revision, entry.params) == ("Mine, 4 bits", "v2", "7B")
    assert (entry.weights_gib, entry.max_images, entry.max_pixels) == (5, 3, 200_000)
    assert entry.reading_tokens == 9000
    assert entry.sampling == SamplingParameters(temperature=1.0, top_p=0.5)


def test_sampling_has_the_parameters_that_a_request_has():
    assert list(ListedSampling.model_fields) == [field.name for field in fields(SamplingParameters)]


def test_an_absolute_folder_stays_and_the_size_follows_from_the_number_of_parameters(file):
    (entry,) = read(file, QWEN | {"folder": "/weights/mine", "params": "7B"})
    assert entry.folder == Path("/weights/mine")
    assert entry.weights_gib == 13.0


def test_several_models_keep_their_order(file):
    entries = read(file, QWEN | {"id": "second"}, QWEN | {"id": "first"})
    assert [entry.id for entry in entries] == ["second", "first"]


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([{"family": "qwen_vl"}], "model 1: 'id' is missing"),
        ([{"id": "mine"}], "model 'mine': 'family' is missing"),
        ([QWEN, {"id": "b"}], "model 'b': 'id': String should match"),
        ([QWEN | {"id": "My-Model"}], "model 'My-Model': 'id': String should match"),
        ([QWEN | {"id": "a" * 41}], "'id': String should match"),
        ([QWEN | {"family": "llama"}], "unknown family 'llama'; known: dots_ocr, got_ocr, qwen_vl"),
        ([QWEN | {"repo": "me/mine"}], "'repo' is not a field; the fields are id, name, "),
        ([QWEN | {"repository": "mine"}], "'repository': String should match"),
        ([QWEN | {"repository": "../mine"}], "'repository': String should match"),
        ([QWEN | {"weights_gib": math.inf}], "'weights_gib': Input should be a finite number"),
        ([QWEN | {"max_pixels": 10}], "'max_pixels': Input should be greater than or equal to"),
        ([QWEN | {"reading_tokens": 0}], "'reading_tokens': Input should be greater than 0"),
        (
            [QWEN | {"sampling": {"temperature": 3}}],
            "'sampling.temperature': Input should be less than or equal to 2, got '3'",
        ),
        (
            [QWEN | {"sampling": {"temp": 1}}],
            "'sampling.temp' is not a field; the fields are temperature, top_p, ",
        ),
        ([QWEN | {"sampling": 1}], "'sampling': Input should be "),
        ([QWEN | {"max_images": "two"}], "'max_images': Input should be a valid integer"),
        ([{"id": "mine", "family": "qwen_vl"}], "needs a repository of the hub or a folder"),
        (
            [{"id": "mine", "family": "qwen_vl", "folder": "a", "revision": "b"}],
            "a revision needs the repository that it is of",
        ),
        ([QWEN | {"family": "got_ocr", "max_images": 2}], "family 'got_ocr' take one image"),
        ([QWEN, QWEN], "model 'mine': there is another model with this id"),
        ([QWEN | {"id": "qwen3_vl_2b"}], "there is another model with this id"),
        ([QWEN | {"id": "tesseract"}], "there is another model with this id"),
    ],
)
def test_a_wrong_model_is_named_with_what_is_wrong(file, models, said):
    with pytest.raises(ValueError, match=r"^'.*models\.toml'") as wrong:
        read(file, *models)
    assert said in str(wrong.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[models]\n", "is not TOML: "),
        ("models = 3\n", "has to consist of [[models]] tables"),
        ("[models]\nid = 'mine'\n", "has to consist of [[models]] tables"),
        ("models = [1]\n", "has to consist of [[models]] tables"),
        ("", "has to consist of [[models]] tables"),
        ("[[model]]\nid = 'mine'\n", "has to consist of [[models]] tables"),
    ],
)
def test_a_file_of_another_shape_is_refused(file, text, said):
    file.write_text(text)
    with pytest.raises(ValueError, match=r"models\.toml") as wrong:
        read_catalog(file)
    assert said in str(wrong.value)


def test_a_file_that_cannot_be_read_is_refused(file):
    with pytest.raises(ValueError, match="cannot be read \\(No such file or directory\\)"):
        read_catalog(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="is not TOML"):
        read_catalog(file)
