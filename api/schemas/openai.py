"""OpenAI's JSON of chat completions, as far as they are served.

https://platform.openai.com/docs/api-reference/chat
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.defaults import TEMPERATURE, TEXT_LAYER, TextLayerChoice
from api.schemas.extras import (
    BlocksField,
    LinesField,
    PromptUsedField,
    RotationField,
    SourceField,
    TruncatedField,
    WarningField,
)
from api.schemas.structured import (
    CallOfTool,
    FunctionTool,
    ReplyCall,
    ResponseFormat,
    Schema,
    StructuredOutputs,
    ToolChoice,
)


class Sent(BaseModel):
    """A JSON object of the request; an unknown field in it is refused."""

    model_config = ConfigDict(extra="forbid")


class TextPart(Sent):
    type: Literal["text"]
    text: str = Field(max_length=20_000)


class ImageUrl(Sent):
    url: str = Field(description="A data: URL; an https address where the operator allows it")
    detail: Literal["auto", "high"] | None = None


class ImagePart(Sent):
    type: Literal["image_url"]
    image_url: ImageUrl


class File(Sent):
    file_data: str = Field(description="A data: URL of a PDF, TIFF or image")
    filename: str | None = None


class FilePart(Sent):
    type: Literal["file"]
    file: File


Part = Annotated[TextPart | ImagePart | FilePart, Field(discriminator="type")]


Content = Annotated[
    list[Part],
    Field(max_length=64),
    BeforeValidator(
        lambda content: (
            [{"type": "text", "text": content}] if isinstance(content, str) else content
        ),
        json_schema_input_type=str | list[Part],
    ),
]


class ChatMessage(Sent):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = Field(default_factory=list, description="Empty only beside `tool_calls`")
    tool_calls: list[CallOfTool] = Field(
        default_factory=list, max_length=64, description="The functions that the assistant called"
    )
    tool_call_id: str | None = Field(None, description="Of the call that the tool's result is of")
    name: str | None = Field(None, description="Of no effect")
    refusal: str | None = Field(None, description="Of no effect")
    annotations: list[Any] | None = Field(None, description="Of no effect")


Stops = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]],
    Field(max_length=4),
    BeforeValidator(
        lambda stop: [stop] if isinstance(stop, str) else stop,
        json_schema_input_type=str | list[str],
    ),
]


class StreamOptions(Sent):
    include_usage: bool = False


class CompletionRequest(Sent):
    model: str = Field(max_length=100, description="Id of a model of `/v1/models`")
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    max_tokens: int | None = Field(None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(None, ge=1, le=4096, description="The same")
    temperature: float | None = Field(None, ge=0, le=2, description=TEMPERATURE)
    top_p: float | None = Field(
        None, ge=0, le=1, description="By default as the model's authors have it, else 1"
    )
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    text_layer: TextLayerChoice = Field("never", description=TEXT_LAYER)
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | str | None = Field(None, description="`structured_outputs.json`")
    guided_regex: str | None = Field(None, max_length=20_000)
    guided_choice: list[str] | None = Field(None, min_length=1, max_length=1000)
    guided_grammar: str | None = Field(None, max_length=100_000)
    tools: list[FunctionTool] | None = Field(None, max_length=128)
    tool_choice: ToolChoice | None = Field(None, description="By default `auto`")
    parallel_tool_calls: bool | None = Field(None, description="False: at most one call")
    n: int | None = Field(None, ge=1, le=16, description="How many answers are made")
    logprobs: bool | None = Field(
        None, description="Tell the log probability of each token, as the model computed it"
    )
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Needs `logprobs`")
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(
        None, gt=0, le=10, description="As in transformers: of the tokens of prompt and answer"
    )
    top_k: int | None = Field(None, ge=-1, description="-1 or 0: all tokens")
    min_p: float | None = Field(None, ge=0, le=1)
    min_tokens: int | None = Field(
        None, ge=0, description="The answer does not end by itself before it has so many tokens"
    )
    user: str | None = Field(None, description="A label for OpenAI's accounting; of no effect")


NEUTRAL_VALUES: dict[str, Any] = {
    "logit_bias": {},
    "modalities": ["text"],
    "store": False,
}
"""Unsupported parameters. Each is accepted only with this value, OpenAI's default, or null."""


class CompletionUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


FinishReason = Literal["stop", "length", "tool_calls"]


class ReplyMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ReplyCall] | None = Field(None, exclude_if=lambda calls: calls is None)


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    content: list[TokenLogprob]
    refusal: None = None


class Choice(BaseModel):
    index: int
    message: ReplyMessage
    logprobs: Logprobs | None
    finish_reason: FinishReason


class Completion(BaseModel):
    """OpenAI's fields come first."""

    # The optional fields are repeated for their order, as in `guide.py`.

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Unix time, seconds")
    model: str
    choices: list[Choice]
    usage: CompletionUsage | None
    lines: LinesField = None
    blocks: BlocksField = None
    rotation: RotationField = None
    prompt_used: PromptUsedField = None
    truncated: TruncatedField = None
    source: SourceField = None
    warning: WarningField = None


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "chatvlmllm"


class ModelCards(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class ErrorBody(BaseModel):
    message: str = Field(description="One sentence: what was wrong, what to do")
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIError(BaseModel):
    error: ErrorBody
