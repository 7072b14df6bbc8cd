"""Answers that fit a schema, through the official `openai` client, before real models."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from openai import BadRequestError, OpenAI, pydantic_function_tool
from pydantic import BaseModel

from tests.support.pages import encode, render
from tests.support.schemas import misfit
from tests.support.server import Server

MODEL = "qwen3_vl_2b"
PAGE = encode(render(("Invoice number: 2024-17", "Date: 12.03.2024", "Total: 1,234.50")))


class Item(BaseModel, extra="forbid"):
    kind: Literal["fox", "dog"]
    paid: bool


class Bill(BaseModel, extra="forbid"):
    number: Literal[1, 2, 3]
    items: tuple[Item, Item]
    shipped: Literal["yes"] | None


class Add(BaseModel):
    """Adds an item."""

    item: Item


@pytest.fixture
def client(structured: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{structured.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def user(text: str = "What is it?", image: bytes | None = None) -> Any:
    parts: list[Any] = [{"type": "text", "text": text}]
    if image:
        url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        parts.insert(0, {"type": "image_url", "image_url": {"url": url}})
    return {"role": "user", "content": parts}


def test_parse_returns_the_clients_own_class(client: OpenAI) -> None:
    for seed in range(3):
        completion = client.chat.completions.parse(
            model=MODEL, messages=[user(image=PAGE)], response_format=Item, seed=seed
        )
        assert isinstance(completion.choices[0].message.parsed, Item)
        assert completion.choices[0].finish_reason == "stop"


def test_a_streamed_answer_is_parsed_too(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=[user()], response_format=Item, seed=1
    ) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Item)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "Add"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_function_is_called_with_arguments_of_its_class(
    client: OpenAI, choice: Any, stream: bool
) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [user()],
        "tools": [pydantic_function_tool(Add)],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "seed": 5,
    }
    if stream:
        with client.chat.completions.stream(**asked) as chunks:
            [choice] = chunks.get_final_completion().choices
    else:
        [choice] = client.chat.completions.parse(**asked).choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert call.function.name == "Add"
    assert isinstance(call.function.parsed_arguments, Add)


def test_a_conversation_goes_on_after_a_call(client: OpenAI) -> None:
    tools = [pydantic_function_tool(Add)]
    first = client.chat.completions.create(
        model=MODEL, messages=[user()], tools=tools, tool_choice="required", seed=1,
        parallel_tool_calls=False,
    ).choices[0].message  # fmt: skip
    assert first.tool_calls
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "Done."}
    messages: list[Any] = [user(), first.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(
        model=MODEL, messages=messages, tools=tools, max_tokens=20, seed=1
    )
    assert second.usage
    assert second.usage.prompt_tokens > 100
    assert second.choices[0].finish_reason in ("stop", "length")


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ({"choice": ["fox", "dog"]}, lambda text: text in ("fox", "dog")),
        ({"regex": "[a-z]{3}"}, lambda text: len(text) == 3),
        ({"grammar": 'root ::= "a" [0-9]'}, lambda text: text[0] == "a"),
        ({"json": Bill.model_json_schema()}, lambda text: Bill.model_validate_json(text)),
    ],
)
def test_the_forms_of_vllm(client: OpenAI, form: dict, fits: Any) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=[user()], extra_body={"structured_outputs": form}, seed=3
    )
    content = completion.choices[0].message.content
    assert content is not None
    assert fits(content)


def test_a_schema_that_cannot_be_held_to_is_refused_with_its_place(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"not": {}}}}
    form: Any = {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": schema, "strict": True},
    }
    with pytest.raises(BadRequestError, match="/properties/a") as raised:
        client.chat.completions.create(model=MODEL, messages=[user()], response_format=form)
    assert raised.value.param == "response_format.json_schema.schema"


def test_the_reader_fills_in_a_class(client: OpenAI) -> None:
    class Invoice(BaseModel):
        invoice_number: str
        total: float
        discount: float | None

    completion = client.chat.completions.parse(
        model="reader", messages=[user(image=PAGE)], response_format=Invoice
    )
    assert completion.choices[0].message.parsed == Invoice(
        invoice_number="2024-17", total=1234.5, discount=None
    )


def test_the_reader_calls_no_functions(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="calls no functions"):
        client.chat.completions.create(
            model="reader", messages=[user(image=PAGE)], tools=[pydantic_function_tool(Add)]
        )


def test_extract_with_a_model_and_with_the_reader(structured: Server) -> None:
    schema = Item.model_json_schema()
    told = structured.client.post(
        "/extract",
        files={"file": PAGE},
        data={"model": MODEL, "schema": json.dumps(schema)},
    ).json()
    assert told["valid"] is True
    assert misfit(json.dumps(told["data"]), schema) is None
    told = structured.client.post(
        "/extract", files={"file": PAGE}, data={"model": "reader", "fields": "date,total,tax"}
    ).json()
    assert told["data"] == {"date": "12.03.2024", "total": "1,234.50", "tax": None}
    assert told["valid"] is True
    assert told["warning"].startswith("Not found: 'tax'.")
