"""OpenAI's and vLLM's fields that hold an answer to a form, and those of functions."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Schema = dict[str, Any]
"""A JSON schema."""
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Given(BaseModel):
    """A JSON object of the request, of which unknown fields are passed over."""

    model_config = ConfigDict(extra="ignore")


class NamedSchema(Given):
    name: str = Field("answer", max_length=64)
    schema_: Schema = Field(alias="schema", description="JSON schema of the answer")
    strict: bool = Field(
        False,
        description="Refuse a schema of which a part cannot be held to; else that part is passed "
        "over",
    )


class TextFormat(Given):
    type: Literal["text"]


class JsonObjectFormat(Given):
    type: Literal["json_object"]


class JsonSchemaFormat(Given):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class StructuredOutputs(Given):
    """One of vLLM's forms."""

    json_: Schema | str | None = Field(None, alias="json", description="JSON schema")
    regex: str | None = Field(None, max_length=20_000)
    choice: list[str] | None = Field(None, min_length=1, max_length=1000)
    grammar: str | None = Field(None, max_length=100_000, description="Of Lark or GBNF")
    json_object: bool | None = None


class Function(Given):
    name: FunctionName
    description: str | None = None
    parameters: Schema = Field(default_factory=dict, description="JSON schema of its arguments")
    strict: bool = False


class FunctionTool(Given):
    type: Literal["function"]
    function: Function


class NamedFunction(Given):
    name: str


class NamedTool(Given):
    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(Given):
    name: FunctionName
    arguments: str = Field(max_length=100_000, description="A JSON object, as text")


class CallOfTool(Given):
    """A function call of an earlier answer, as it was sent."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class ReplyFunction(BaseModel):
    name: str
    arguments: str


class ReplyCall(BaseModel):
    """A function call of an answer."""

    id: str
    type: Literal["function"] = "function"
    function: ReplyFunction
