"""Structured answers through the frameworks that people use, before a real model.

Each is tested where its package is installed, see requirements-dev.txt.
"""

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from tests.support.server import Server

MODEL = "qwen3_vl_2b"
QUESTION = "What is it?"


class Item(BaseModel):
    """An item."""

    kind: Literal["fox", "dog"]
    paid: bool


@pytest.fixture
def address(structured: Server) -> dict[str, Any]:
    return {"base_url": f"{structured.url}/v1", "api_key": "none"}


@pytest.mark.parametrize("mode", ["TOOLS", "TOOLS_STRICT", "JSON_SCHEMA"])
def test_instructor(address: dict[str, Any], mode: str) -> None:
    instructor = pytest.importorskip("instructor")
    openai = pytest.importorskip("openai")
    client = instructor.from_openai(openai.OpenAI(**address), mode=instructor.Mode[mode])
    item = client.chat.completions.create(
        model=MODEL,
        response_model=Item,
        messages=[{"role": "user", "content": QUESTION}],
        max_retries=0,
        seed=1,
    )
    assert isinstance(item, Item)


def test_instructor_gets_json_where_it_sends_no_schema(address: dict[str, Any]) -> None:
    """A random model cannot follow a schema that is only in the prompt, but its JSON is whole."""
    instructor = pytest.importorskip("instructor")
    openai = pytest.importorskip("openai")
    client = instructor.from_openai(openai.OpenAI(**address), mode=instructor.Mode.JSON)

    class Anything(BaseModel, extra="allow"):
        """Whatever is there."""

    made = client.chat.completions.create(
        model=MODEL,
        response_model=Anything,
        messages=[{"role": "user", "content": QUESTION}],
        max_retries=0,
        seed=3,
    )
    assert isinstance(made, Anything)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_with_structured_output(address: dict[str, Any], method: Any) -> None:
    langchain = pytest.importorskip("langchain_openai")
    model = langchain.ChatOpenAI(model=MODEL, seed=1, **address)
    made = model.with_structured_output(Item, method=method).invoke(QUESTION)
    assert isinstance(made, Item)


def test_langchain_bind_tools_whole_and_streamed(address: dict[str, Any]) -> None:
    langchain = pytest.importorskip("langchain_openai")
    model = langchain.ChatOpenAI(model=MODEL, seed=1, **address)
    bound = model.bind_tools([Item], tool_choice="any", parallel_tool_calls=False)
    [call] = bound.invoke(QUESTION).tool_calls
    Item.model_validate(call["args"])
    first, *rest = bound.stream(QUESTION)
    for chunk in rest:
        first += chunk
    assert [one["args"] for one in first.tool_calls] == [call["args"]]


@pytest.mark.parametrize("kind", ["ToolOutput", "NativeOutput"])
def test_pydantic_ai(address: dict[str, Any], kind: str) -> None:
    ai = pytest.importorskip("pydantic_ai")
    models = pytest.importorskip("pydantic_ai.models.openai")
    providers = pytest.importorskip("pydantic_ai.providers.openai")
    model = models.OpenAIChatModel(MODEL, provider=providers.OpenAIProvider(**address))
    agent = ai.Agent(
        model, output_type=getattr(ai, kind)(Item), retries=0, model_settings={"seed": 1}
    )
    assert isinstance(agent.run_sync(QUESTION).output, Item)
