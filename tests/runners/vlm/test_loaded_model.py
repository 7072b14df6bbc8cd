import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from common.catalog import SamplingParameters
from common.deadline import Deadline
from common.messages import Answer, Request, single_turn
from common.units import GIB
from runners.vlm.loaded_model import LoadedModel
from settings import Settings
from tests.support.models.text_family import ENTRY, Family
from tests.support.models.text_vlm import TextVlm, encode
from tests.support.pages import ENGLISH, render
from tests.support.pages import encode as encode_image

TOKENS = 30
PAGE = render(ENGLISH * 4, 16)


@pytest.fixture
def load(monkeypatch) -> Iterator[Callable[[SamplingParameters], LoadedModel]]:
    """Loads the model of tests, whose authors have tokens chosen in this way."""
    torch.set_num_threads(1)
    monkeypatch.setitem(sys.modules, "runners.families.text_for_tests", Family())
    loaded = []

    def load(authors: SamplingParameters = ENTRY.sampling) -> LoadedModel:
        entry = replace(ENTRY, sampling=authors)
        loaded.append(LoadedModel(entry, Settings(kv_budget_gib=1), ThreadPoolExecutor(1)))
        return loaded[-1]

    yield load
    for model in loaded:
        model.close()
        model.release()


async def ask(model: LoadedModel, **fields: object) -> Answer:
    request = {
        "task": "chat",
        "turns": single_turn([encode_image(PAGE)], "page"),
        "max_tokens": TOKENS,
        "seed": 1,
        **fields,
    }
    return await model.answer(Request.model_validate(request), Deadline(60))


def greedy() -> str:
    return (
        bytes(TextVlm().generate(encode(b"page"), TOKENS)).decode(errors="replace").rstrip("\ufffd")
    )


async def test_a_question_without_a_temperature_is_answered_at_that_of_the_guide(load):
    model = load()
    answer = await ask(model)
    assert answer.text == (await ask(model, temperature=0.7)).text != greedy()


async def test_the_temperature_is_the_authors_where_nobody_says_another(load):
    model = load(SamplingParameters(temperature=0.0))
    assert (await ask(model)).text == greedy()
    assert (await ask(model, temperature=0.7)).text != greedy()


async def test_what_the_checkpoint_says_comes_before_what_the_catalog_says(load, monkeypatch):
    checkpoint = SamplingParameters(temperature=1.0, top_p=0.0)
    monkeypatch.setattr(
        "runners.transformers_models.transformers_vlm.checkpoint_parameters",
        lambda config: checkpoint,
    )
    model = load(SamplingParameters(temperature=0.7, top_p=1.0))
    assert (await ask(model)).text == greedy()  # only the likeliest token is in the nucleus
    assert (await ask(model, top_p=1.0)).text == (await ask(model, temperature=1.0, top_p=1)).text


async def test_a_page_is_read_greedily(load):
    assert (await ask(load(SamplingParameters(temperature=1.5)), task="ocr")).text == greedy()


@pytest.mark.parametrize("task", ["ocr", "chat"])
async def test_an_answer_says_when_the_page_was_shrunk_too_far(load, monkeypatch, task):
    plain = TextVlm.encode
    size = PAGE.width // 3, PAGE.height // 3

    def shrunk(vlm, request):
        return replace(plain(vlm, request), seen_sizes=(size,), image_size=PAGE.size)

    monkeypatch.setattr(TextVlm, "encode", shrunk)
    model = load()
    for _ in range(2):  # measured, then remembered
        warning = (await ask(model, task=task)).warning
        assert warning is not None
        assert f"{PAGE.width} x {PAGE.height} pixels as {size[0]} x {size[1]}" in warning


async def test_a_page_that_is_seen_as_it_is_has_no_warning(load):
    assert (await ask(load(), task="ocr")).warning is None


def test_images_are_bounded_by_the_memory_of_the_cache(load, monkeypatch):
    bounds = []
    monkeypatch.setattr(TextVlm, "bound_images", lambda vlm, tokens: bounds.append(tokens))
    load()
    pool = TextVlm().pool
    assert bounds == [GIB // 2 * pool.block_size // pool.bytes_per_block]
