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

MOST_TOKENS = 2**31 - 1
"""More than any context has room for."""


class Sent(BaseModel):
    """A JSON object of the request; an unknown field in it is passed over."""

    model_config = ConfigDict(extra="ignore")


def _within(low: float, high: float) -> BeforeValidator:
    """Moves a number to the nearest one within the limits."""

    def move(number: Any) -> Any:
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        return max(low, min(number, high)) if is_number else number

    return BeforeValidator(move, json_schema_input_type=float | None)


def _at_most(limit: float) -> BeforeValidator:
    """Lowers a number to the limit."""
    return _within(float("-inf"), limit)


class TextPart(Sent):
    type: Literal["text"]
    text: str


class ImageUrl(Sent):
    url: str = Field(
        description="A data: URL, or base64; an https address where the operator allows it"
    )
    detail: str | None = Field(None, description="Of no effect")


class ImagePart(Sent):
    type: Literal["image_url"]
    image_url: Annotated[
        ImageUrl,
        BeforeValidator(
            lambda image: {"url": image} if isinstance(image, str) else image,
            json_schema_input_type=ImageUrl | str,
        ),
    ]


class File(Sent):
    file_data: str = Field(description="A PDF, TIFF or image as a data: URL or in base64")


class FilePart(Sent):
    type: Literal["file"]
    file: File


Part = Annotated[TextPart | ImagePart | FilePart, Field(discriminator="type")]


Content = Annotated[
    list[Part],
    Field(max_length=256),
    BeforeValidator(
        lambda content: (
            [{"type": "text", "text": content}] if isinstance(content, str) else content
        ),
        json_schema_input_type=str | list[Part],
    ),
]


class ChatMessage(Sent):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = Field(default_factory=list, description="The user's may not be empty")
    tool_calls: list[CallOfTool] = Field(
        default_factory=list, max_length=64, description="The functions that the assistant called"
    )
    tool_call_id: str | None = Field(None, description="Of the call that the tool's result is of")


Stops = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]],
    Field(max_length=16),
    BeforeValidator(
        lambda stop: [stop] if isinstance(stop, str) else stop,
        json_schema_input_type=str | list[str],
    ),
]


class StreamOptions(Sent):
    include_usage: bool = False


class CompletionRequest(Sent):
    model: str = Field(max_length=100, description="Id of a model of `/v1/models`")
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    max_tokens: Annotated[int | None, _at_most(MOST_TOKENS)] = Field(
        None, ge=1, description="Lowered to what the model's context leaves"
    )
    max_completion_tokens: Annotated[int | None, _at_most(MOST_TOKENS)] = Field(
        None, ge=1, description="The same; it wins over `max_tokens`"
    )
    temperature: Annotated[float | None, _at_most(2)] = Field(
        None, ge=0, allow_inf_nan=False, description=f"At most 2. {TEMPERATURE}"
    )
    top_p: Annotated[float | None, _at_most(1)] = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="At most 1. By default as the model's authors have it, else 1",
    )
    seed: Annotated[int | None, _within(-(2**63), 2**63 - 1)] = None
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
    top_logprobs: Annotated[int | None, _at_most(20)] = Field(
        None, ge=0, description="At most 20; needs `logprobs`"
    )
    frequency_penalty: Annotated[float | None, _within(-2, 2)] = Field(
        None, allow_inf_nan=False, description="From -2 to 2"
    )
    presence_penalty: Annotated[float | None, _within(-2, 2)] = Field(
        None, allow_inf_nan=False, description="From -2 to 2"
    )
    repetition_penalty: Annotated[float | None, _at_most(10)] = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="At most 10. As in transformers: of the tokens of prompt and answer",
    )
    top_k: Annotated[int | None, _at_most(MOST_TOKENS)] = Field(
        None, ge=-1, description="-1 or 0: all tokens"
    )
    min_p: Annotated[float | None, _at_most(1)] = Field(
        None, ge=0, allow_inf_nan=False, description="At most 1"
    )
    min_tokens: Annotated[int | None, _at_most(MOST_TOKENS)] = Field(
        None, ge=0, description="The answer does not end by itself before it has so many tokens"
    )


NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "modalities": (["text"], []),
    "audio": (),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "continue_final_message": (False,),
    "add_generation_prompt": (True,),
    "echo": (False,),
    "ignore_eos": (False,),
    "use_beam_search": (False,),
    "stop_token_ids": ([],),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "prompt_logprobs": (0,),
    "chat_template": (),
    "truncate_prompt_tokens": (),
}
"""Parameters of OpenAI and vLLM that would change the answer, and are not supported. Each is
accepted only with one of these values, which change nothing, or null."""


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
