"""Several answers to one request, and the log probabilities of tokens, as a loaded model tells
them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Answer, ChosenToken, Piece, Request, Turn
from runners.vlm.loaded_model import LoadedModel
from settings import Settings
from tests.support.models.text_family import ENTRY, Family, install
from tests.support.models.text_vlm import TextVlm, encode


@pytest.fixture
def family(monkeypatch) -> Family:
    return install(monkeypatch)


@pytest.fixture
def model(family) -> Iterator[LoadedModel]:
    with ThreadPoolExecutor(1) as encoders:
        model = LoadedModel(ENTRY, Settings(kv_budget_gib=1), encoders)
        yield model
        model.close()


def ask(text: str = "page", new: int = 30, **more: object) -> tuple[Request, Deadline]:
    turns = (Turn(role="user", parts=(text,)),)
    fields = {"task": "chat", "turns": turns, "max_tokens": new, "temperature": 0.0, **more}
    return Request.model_validate(fields), Deadline(120)


async def streamed(model: LoadedModel, request: tuple[Request, Deadline]) -> tuple[list, Answer]:
    *pieces, answer = [item async for item in model.stream(*request)]
    assert all(isinstance(piece, Piece) for piece in pieces)
    return pieces, answer


def said(answer: Answer) -> list[tuple]:
    """All answers but for the last bits of log probabilities, which differ with the batch."""
    return [
        (one.text, one.usage, one.finish_reason, [token.data for token in one.tokens or ()])
        for one in (answer, *answer.others)
    ]


def text_of(tokens: Sequence[ChosenToken]) -> str:
    return b"".join(token.data for token in tokens).decode(errors="replace")


async def test_several_answers_are_made_each_with_a_seed_of_its_own(model):
    drawn = {"temperature": 1.0, "seed": 5}
    answer = await model.answer(*ask(n=3, **drawn))
    alone = [await model.answer(*ask(**drawn | {"seed": seed})) for seed in (5, 6, 7)]
    assert [answer.model_copy(update={"others": ()}), *answer.others] == alone
    assert len({one.text for one in alone}) == 3


@pytest.mark.parametrize("more", [{}, {"stop": ("a", "e", "i")}, {"logprobs": 2}])
async def test_several_answers_are_streamed_as_they_are_told_whole(model, more):
    request = ask(n=4, temperature=1.3, seed=1, **more)
    whole = await model.answer(*request)
    pieces, answer = await streamed(model, request)
    assert said(answer) == said(whole)
    for index, one in enumerate((answer, *answer.others)):
        own = [piece for piece in pieces if piece.index == index]
        assert "".join(piece.text for piece in own) == one.text
        assert [token for piece in own for token in piece.tokens or ()] == [*(one.tokens or ())]


@pytest.mark.parametrize("reuse", [0, 2**20])
async def test_the_prompt_of_several_answers_is_prefilled_once(monkeypatch, model, family, reuse):
    vlm = model._model
    monkeypatch.setattr(vlm, "prefix_bytes", reuse)
    text = "a prompt of more than one block, which has sixteen columns"
    answer = await model.answer(*ask(text, n=3))
    first, *others = vlm.prefilled
    assert first == (0, len(text))
    assert others == [(len(text) - 1, len(text))] * 2
    greedy = bytes(TextVlm().generate(encode(text.encode()), 30)).decode(errors="replace")
    for one in (answer, *answer.others):
        assert one.text == greedy.rstrip("\ufffd").strip()


async def test_one_answer_that_fails_fails_all(model, monkeypatch):
    vlm = model._model
    decode = vlm.decode

    def broken(rows):
        logits = decode(rows)
        logits[-1] = torch.nan
        return logits

    monkeypatch.setattr(vlm, "decode", broken)
    with pytest.raises(Refusal) as refused:
        await model.answer(*ask(n=3))
    assert refused.value.code is ErrorCode.FAULT


async def test_each_token_of_an_answer_has_its_log_probability(model):
    answer = await model.answer(*ask(logprobs=3))
    assert answer.tokens is not None
    assert len(answer.tokens) == answer.usage.completion_tokens
    assert text_of(answer.tokens).rstrip("\ufffd").strip() == answer.text
    for token in answer.tokens:
        assert len(token.likeliest) == 3
        assert (token.data, token.logprob) == (token.likeliest[0].data, token.likeliest[0].logprob)
        assert 0 >= token.logprob >= token.likeliest[1].logprob >= token.likeliest[2].logprob
    assert (await model.answer(*ask())).tokens is None


async def test_a_penalty_changes_the_answer_but_not_its_log_probabilities(model):
    plain = await model.answer(*ask(logprobs=1))
    other = await model.answer(*ask(logprobs=1, repetition_penalty=8.0))
    assert plain.tokens is not None
    assert other.tokens is not None
    [expected], [found] = plain.tokens[0].likeliest, other.tokens[0].likeliest
    assert found.data == expected.data
    assert found.logprob == pytest.approx(expected.logprob, abs=1e-4)
    assert plain.text != other.text


async def test_tokens_that_cannot_be_have_a_finite_log_probability(model, family):
    family.says = b"ab"
    endless = await model.answer(*ask(logprobs=20))
    told = [one.logprob for token in endless.tokens for one in token.likeliest]
    assert min(told) >= -9999


async def test_an_answer_has_its_least_tokens_whatever_would_end_it(model, family):
    family.says = b"ab"
    assert (await model.answer(*ask())).text == "ab"
    longer = await model.answer(*ask(min_tokens=7))
    assert longer.usage.completion_tokens == 7
    assert longer.finish_reason == "stop"
    family.says = b"abababababab"
    stopped = await model.answer(*ask(stop=("b",), min_tokens=6))
    assert (stopped.text, stopped.finish_reason) == ("abababa", "stop")
    assert (await model.answer(*ask(stop=("b",)))).text == "a"
