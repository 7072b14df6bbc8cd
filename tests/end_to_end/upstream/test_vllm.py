"""Before a real vLLM: its answers are those of this service's own engine on the same checkpoint."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.support.random_qwen import MODEL
from benchmarks.support.sides import LONGEST, Setup, require_vllm, vllm_serve
from common.catalog import CATALOG
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Constraint, Image, Request, Turn
from runners.upstream.engine import UpstreamEngine
from runners.vlm.engine import VlmEngine
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.prompts import page
from tests.support.server import RAMBLING_SEED

pytestmark = pytest.mark.upstream
ENTRY = CATALOG[MODEL]
SECONDS = 300.0
SHORT = 24
"""Tokens of an answer that both engines make."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    make_checkpoint(MODEL, folder / MODEL, seed=RAMBLING_SEED)
    return folder


@pytest.fixture(scope="module")
def vllm(weights: Path) -> Iterator[str]:
    """The address of a vLLM that has loaded the checkpoint."""
    require_vllm()
    with vllm_serve(Setup(weights, "float32", threads=2), caches=True) as url:
        yield url


@pytest.fixture
async def engine(vllm: str) -> AsyncIterator[UpstreamEngine]:
    engine = UpstreamEngine(ENTRY, Settings(upstream={MODEL: f"{vllm}/v1"}))
    yield engine
    await engine.close()


@pytest.fixture
async def own(weights: Path) -> AsyncIterator[VlmEngine]:
    engine = VlmEngine(
        ENTRY, Settings(weights=weights, dtype="float32", max_pixels=ENTRY.max_pixels)
    )
    yield engine
    await engine.close()


def image(width: int, height: int) -> Image:
    file = io.BytesIO()
    page(width, height).save(file, "PNG")
    return Image(data=file.getvalue())


def asked(*parts: str | Image, **changes: Any) -> Request:
    turns = (Turn(role="user", parts=parts),)
    return Request(
        **{"task": "chat", "turns": turns, "max_tokens": SHORT, "temperature": 0} | changes
    )


CONVERSATION = (
    Turn(role="system", parts=("Be brief.",)),
    Turn(role="user", parts=(image(200, 150), "What is this?")),
    Turn(role="assistant", parts=("A page.",)),
    Turn(role="system", parts=("Be kind.",)),
    Turn(role="user", parts=("And the colours?",)),
)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(asked("What is this?"), id="a text"),
        pytest.param(asked(image(40, 5), "What is this?"), id="a thin image"),
        pytest.param(
            asked("Look: ", image(333, 270), "What is this?"), id="an image in the middle"
        ),
        pytest.param(asked(turns=CONVERSATION), id="a conversation"),
        pytest.param(asked(image(500, 700), task="ocr", language="ru"), id="a page"),
    ],
)
async def test_vllm_answers_as_the_own_engine_does(
    engine: UpstreamEngine, own: VlmEngine, request_: Request
) -> None:
    there = await engine.answer(request_, Deadline(SECONDS))
    here = await own.answer(request_, Deadline(SECONDS))
    assert there == here
    assert there.usage is not None
    assert there.usage.completion_tokens == SHORT


@pytest.mark.parametrize(
    ("constraint", "may_be"),
    [
        (Constraint(kind="choice", text='["red", "blue"]'), {"red", "blue"}),
        (Constraint(kind="regex", text="(ab){3}"), {"ababab"}),
        (Constraint(kind="grammar", text='root ::= "x" "y"'), {"xy"}),
    ],
)
async def test_it_holds_an_answer_to_a_constraint(
    engine: UpstreamEngine, constraint: Constraint, may_be: set[str]
) -> None:
    answer = await engine.answer(asked("Which?", constraint=constraint), Deadline(SECONDS))
    assert answer.text in may_be
    assert answer.finish_reason == "stop"


async def test_it_holds_an_answer_to_a_schema(engine: UpstreamEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    constraint = Constraint(kind="json", text=json.dumps(schema))
    request = asked(image(99, 99), "Which?", constraint=constraint, max_tokens=200)
    answer = await engine.answer(request, Deadline(SECONDS))
    assert json.loads(answer.text)["colour"] in ("red", "blue")


async def test_pieces_come_one_after_the_other(engine: UpstreamEngine) -> None:
    async with aclosing(engine.stream(asked("What is this?"), Deadline(SECONDS))) as stream:
        *pieces, answer = [item async for item in stream]
    assert len(pieces) > 3
    assert "".join(piece.text for piece in pieces) == answer.text


async def test_its_model_is_found_and_its_health_told(engine: UpstreamEngine) -> None:
    status = await engine.status()
    assert (status.state, status.reason) == ("loaded", None)


async def test_a_name_that_it_does_not_serve_is_answered_with_the_one_that_it_does(
    vllm: str,
) -> None:
    settings = Settings(upstream={MODEL: f"{vllm}/v1"}, upstream_names={MODEL: "other"})
    with pytest.raises(Refusal, match=f"'{MODEL}'") as refused:
        await UpstreamEngine(ENTRY, settings).answer(asked("Who?"), Deadline(SECONDS))
    assert refused.value.code is ErrorCode.UNAVAILABLE


async def test_a_wrong_path_is_told(vllm: str) -> None:
    settings = Settings(upstream={MODEL: f"{vllm}/v2"})
    with pytest.raises(Refusal, match="ends in /v1"):
        await UpstreamEngine(ENTRY, settings).load()


async def test_an_answer_that_may_be_longer_than_the_context_is_as_long_as_fits(
    engine: UpstreamEngine,
) -> None:
    request = asked("Who? " * 200, max_tokens=LONGEST * 2)
    answer = await engine.answer(request, Deadline(SECONDS))
    assert answer.finish_reason in ("length", "stop", "repetition")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= LONGEST


async def test_a_prompt_that_is_longer_than_the_context_is_refused(engine: UpstreamEngine) -> None:
    with pytest.raises(Refusal, match="longer than what the server") as refused:
        await engine.answer(asked("Who? " * 4000), Deadline(SECONDS))
    assert refused.value.code is ErrorCode.BAD_PARAMETER


async def test_more_images_than_it_takes_are_refused(engine: UpstreamEngine) -> None:
    with pytest.raises(Refusal, match="does not take this request") as refused:
        await engine.answer(asked(image(99, 99), image(98, 99), "Who?"), Deadline(SECONDS))
    assert refused.value.code is ErrorCode.BAD_PARAMETER


async def test_a_hang_up_and_a_deadline_stop_its_work(vllm: str, engine: UpstreamEngine) -> None:
    long = asked(image(200, 150), "Tell me more.", max_tokens=3000)
    async with aclosing(engine.stream(long, Deadline(SECONDS))) as stream:
        await anext(stream)
        assert await running(vllm) == 1
    await until_idle(vllm)
    answer = await engine.answer(long, Deadline(1.0))
    assert answer.finish_reason == "deadline"
    assert answer.text
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens < 3000
    await until_idle(vllm)


async def running(vllm: str) -> float:
    """How many requests vLLM works on."""
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"{vllm}/metrics")).text
    found = re.search(r"^vllm:num_requests_running\{.*\} ([\d.]+)$", metrics, re.M)
    assert found, metrics
    return float(found[1])


async def until_idle(vllm: str) -> None:
    for _ in range(100):
        if not await running(vllm):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("vLLM goes on")
