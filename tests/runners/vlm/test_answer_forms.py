"""Answers of the engine that are held to a form, or call functions."""

import asyncio
import json
import sys

import pytest
import torch

from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Answer, Constraint, Piece, Request, Tool, Toolbox, single_turn
from runners.vlm.engine import VlmEngine
from settings import Settings
from tests.support.models.text_family import ENTRY, Family
from tests.support.schemas import misfit

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["invoice", "receipt"]},
        "total": {"type": "integer", "minimum": 0, "maximum": 999},
        "note": {"type": "string", "maxLength": 6},
    },
    "required": ["kind", "total", "note"],
    "additionalProperties": False,
}
TOOLS = tuple(
    Tool(name=name, description=None, parameters=SCHEMA, strict=True) for name in ("add", "drop")
)


@pytest.fixture
async def engine(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setitem(sys.modules, "runners.families.text_for_tests", Family())
    monkeypatch.setattr("runners.checkpoints.weights.why_unavailable", lambda entry, settings: None)
    engine = VlmEngine(ENTRY, Settings(kv_budget_gib=1))
    yield engine
    await engine.close()


def asked(text: str = "page", new: int = 400, **more: object) -> Request:
    fields = {"task": "chat", "turns": single_turn([], text), "max_tokens": new, **more}
    return Request.model_validate({"temperature": 1.0, "seed": 1} | fields)


def schema(fields: dict) -> Constraint:
    return Constraint(kind="json", text=json.dumps(fields))


def box(**more: object) -> Toolbox:
    return Toolbox.model_validate({"tools": TOOLS, "callable": ("add", "drop")} | more)


async def both(engine: VlmEngine, request: Request) -> tuple[Answer, list[Piece]]:
    """The whole answer, which the streamed one equals, and its pieces."""
    whole = await engine.answer(request, Deadline(60))
    *pieces, last = [item async for item in engine.stream(request, Deadline(60))]
    assert last == whole
    return whole, pieces


async def test_whole_and_streamed_answers_fit_the_schema(engine):
    answer, pieces = await both(engine, asked(constraint=schema(SCHEMA)))
    assert answer.finish_reason == "stop"
    assert misfit(answer.text, SCHEMA) is None
    assert "".join(piece.text for piece in pieces) == answer.text


@pytest.mark.parametrize(
    ("constraint", "fits"),
    [
        (Constraint(kind="choice", text='["yes", "no"]'), lambda text: text in ("yes", "no")),
        (Constraint(kind="regex", text="[a-c]{4}-[0-9]"), lambda text: len(text) == 6),
        (Constraint(kind="grammar", text='start: "a" ("b" | "c") "d"'), lambda t: t[0::2] == "ad"),
        (Constraint(kind="grammar", text='root ::= "x" [0-9]'), lambda text: text[1:].isdigit()),
    ],
)
async def test_each_kind_of_form_is_held_to(engine, constraint, fits):
    answer, _ = await both(engine, asked(constraint=constraint))
    assert answer.finish_reason == "stop"
    assert fits(answer.text)


async def test_answers_with_and_without_a_form_are_made_together(engine):
    plain = asked("other", 40, temperature=0)
    alone = await engine.answer(plain, Deadline(60))
    held = [asked(f"page {n}", constraint=schema(SCHEMA), seed=n) for n in range(4)]
    answers = await asyncio.gather(*(engine.answer(one, Deadline(60)) for one in [plain, *held]))
    assert answers[0] == alone
    assert all(misfit(answer.text, SCHEMA) is None for answer in answers[1:])
    assert len({answer.text for answer in answers[1:]}) > 1


async def test_an_answer_without_room_says_length(engine):
    answer, _ = await both(engine, asked(new=8, constraint=schema(SCHEMA)))
    assert answer.finish_reason == "length"


async def test_required_calls_are_read_out_of_the_text(engine):
    answer, pieces = await both(engine, asked(toolbox=box(required=True, parallel=False)))
    assert answer.text == ""
    [call] = answer.calls
    assert call.name in ("add", "drop")
    assert misfit(call.arguments, SCHEMA) is None
    first, *rest = [piece.call for piece in pieces]
    assert (first.number, first.name, first.arguments) == (0, call.name, "")
    assert "".join(piece.arguments for piece in rest) == call.arguments
    assert len(rest) > 3


async def test_the_function_that_is_chosen_is_called(engine):
    for name in ("add", "drop"):
        toolbox = box(required=True, parallel=False, callable=(name,))
        answer = await engine.answer(asked(toolbox=toolbox), Deadline(60))
        assert [call.name for call in answer.calls] == [name]


async def test_a_model_that_may_call_need_not(engine):
    """A random model does not come upon the opening of a call."""
    answer, pieces = await both(engine, asked(new=50, toolbox=box()))
    assert answer.calls == ()
    assert len(answer.text) > 10
    assert "".join(piece.text for piece in pieces) == answer.text


async def test_a_call_that_was_cut_off_says_length(engine):
    answer, pieces = await both(engine, asked(new=60, toolbox=box(required=True)))
    assert answer.finish_reason == "length"
    shown = "".join(piece.call.arguments for piece in pieces)
    assert shown == answer.calls[0].arguments != ""


async def test_a_stop_text_ends_a_call_too(engine):
    request = asked(toolbox=box(required=True), stop=('"kind"',))
    answer, _ = await both(engine, request)
    assert answer.finish_reason == "stop"
    assert answer.calls[0].arguments == "{"


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("json", '{"type": "foo"}', "make it simpler"),
        ("grammar", "start: nothing", "make it simpler"),
        ("grammar", "root ::= ((", "cannot be held to the grammar: Failed to convert"),
    ],
)
async def test_a_form_that_cannot_be_held_to_is_refused(engine, kind, text, words):
    with pytest.raises(Refusal, match=words) as raised:
        await engine.answer(asked(constraint=Constraint(kind=kind, text=text)), Deadline(60))
    assert raised.value.code is ErrorCode.BAD_PARAMETER
