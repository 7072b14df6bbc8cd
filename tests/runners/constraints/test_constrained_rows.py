"""Rows that are held to a grammar, in the batcher."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.constraints.grammars import grammar_of
from common.constraints.json_schemas import schema_grammar
from common.failures import ErrorCode
from common.messages import Constraint
from runners.constraints.guide import Guide
from runners.scheduling.row import GREEDY, Row, Sampling
from tests.support.models.batching import blocks, make_batcher, make_row, refusal, run
from tests.support.models.text_vlm import TextVlm
from tests.support.schemas import BOUNDED, misfit

TREE = {
    "type": "object",
    "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}},
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def vlm():
    return TextVlm()


def row(vlm: TextVlm, schema: dict, text: bytes = b"page", new: int = 1000, seed: int = 0) -> Row:
    guide = Guide(vlm.vocabulary, schema_grammar(schema))
    return make_row(text, new, guide=guide, sampling=Sampling(1.0, seed))


def made(vlm: TextVlm, *rows: Row, **changes: int) -> list[tuple[str, str]]:
    """The text of each row, and why it ended."""
    batcher = make_batcher(vlm, **changes)
    for one in rows:
        batcher.submit(one)
    run(batcher)
    finished = [one.future.result(timeout=0) for one in rows]
    return [(vlm.text(one.tokens), one.reason) for one in finished]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(BOUNDED, st.integers(0, 2**32)), min_size=1, max_size=3))
def test_whatever_a_model_makes_fits_the_schema(vlm, asked):
    rows = [row(vlm, schema, seed=seed) for schema, seed in asked]
    for (text, reason), (schema, _) in zip(made(vlm, *rows), asked, strict=True):
        assert reason == "stop"
        assert misfit(text, schema) is None


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_an_answer_that_may_be_long_is_whole_or_says_why_not(vlm, seed, new):
    schemas = [TREE, {"type": "object"}, {"type": "array", "items": {"type": "number"}}]
    rows = [row(vlm, schema, new=new, seed=seed) for schema in schemas]
    for (text, reason), schema in zip(made(vlm, *rows), schemas, strict=True):
        if reason == "stop":
            assert misfit(text, schema) is None
        else:
            assert reason in ("length", "repetition")


def test_an_answer_that_has_no_room_says_so(vlm):
    text, reason = made(vlm, row(vlm, {"type": "string", "minLength": 40}, new=20))[0]
    assert reason == "length"
    assert text.startswith('"')


def test_it_ends_with_the_last_token_that_may_follow(vlm):
    one = row(vlm, {"const": "abc"}, new=5)
    assert made(vlm, one) == [('"abc"', "stop")]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("choices", [[""], ["ab"], ["a", "abc"]])
def test_a_complete_grammar_wins_over_min_tokens(vlm, choices, temperature):
    constraint = Constraint(kind="choice", text=json.dumps(choices))
    sampling = Sampling(temperature, 0, min_tokens=9)
    one = make_row(
        b"page", 20, guide=Guide(vlm.vocabulary, grammar_of(constraint)), sampling=sampling
    )
    # The longest one: the answer goes on as long as it can.
    assert made(vlm, one) == [(choices[-1], "stop")]


def test_rows_without_a_grammar_are_as_they_are_alone(vlm):
    free = [make_row(text, 60, sampling=GREEDY) for text in (b"one", b"another")]
    alone = [made(vlm, make_row(text, 60))[0] for text in (b"one", b"another")]
    held = [row(vlm, {"const": "x" * number}, seed=number) for number in (3, 30)]
    together = made(vlm, free[0], held[0], free[1], held[1])
    assert together[0::2] == alone
    assert together[1::2] == [('"xxx"', "stop"), (f'"{"x" * 30}"', "stop")]


def test_a_row_that_gave_way_goes_on_where_it_was(vlm):
    schema = {
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": 9},
        "minItems": 40,
        "maxItems": 40,
    }
    alone = [made(vlm, row(vlm, schema, seed=seed))[0] for seed in range(3)]
    batcher = make_batcher(vlm, kv_budget=blocks(vlm, 16))
    rows = [row(vlm, schema, seed=seed) for seed in range(3)]
    for one in rows:
        batcher.submit(one)
    run(batcher)
    assert batcher.preemptions
    finished = [one.future.result(timeout=0) for one in rows]
    assert [(vlm.text(one.tokens), one.reason) for one in finished] == alone


def test_a_prompt_in_slices_takes_no_token_before_its_last(vlm):
    one = row(vlm, {"const": "abc"}, text=b"long " * 300)
    assert made(vlm, one) == [('"abc"', "stop")]


def test_what_equals_itself_is_whole_where_the_grammar_wants_it(vlm):
    """The guard against loops would leave one period of it."""
    zeros = {"type": "array", "items": {"const": 0}, "minItems": 170, "maxItems": 170}
    text, reason = made(vlm, row(vlm, zeros, new=600))[0]
    assert reason in ("stop", "repetition")
    if reason == "stop":
        assert json.loads(text) == [0] * 170


def test_a_grammar_that_goes_beyond_its_limits_fails_its_row_alone(vlm):
    endless = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    one, other = row(vlm, endless), row(vlm, {"const": 1})
    batcher = make_batcher(vlm)
    batcher.submit(one)
    batcher.submit(other)
    run(batcher)
    assert refusal(one) is ErrorCode.BAD_PARAMETER
    assert vlm.text(other.future.result(timeout=0).tokens) == "1"
