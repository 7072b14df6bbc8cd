"""Functions and their calls in prompts."""

import pytest
from transformers import AutoProcessor

from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from common.messages import Tool, Toolbox, ToolCall
from runners.families.qwen_vl import load
from runners.transformers_models.chat_template import ChatTemplate
from runners.vlm.interface import ModelRequest, ModelTurn, Task
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint

CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Kazań"]}}}


def toolbox(description: str | None = "The weather") -> Toolbox:
    tool = Tool(name="weather", description=description, parameters=CITY)
    return Toolbox(tools=(tool,), callable=("weather",))


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    folder = make_checkpoint("qwen3_vl_2b", tmp_path_factory.mktemp("weights") / "qwen")
    return AutoProcessor.from_pretrained(folder)


def as_dict(box: Toolbox) -> dict:
    [tool] = box.tools
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def test_a_prompt_with_functions_is_that_of_the_template(processor):
    turns = [
        ModelTurn("system", ("Be brief.",)),
        ModelTurn("user", ("How is it?",)),
        ModelTurn("assistant", (), (ToolCall(name="weather", arguments='{"city": "Kazań"}'),)),
        ModelTurn("tool", ("Sun.",)),
        ModelTurn("tool", ("\ufffc",)),
    ]
    text = {"type": "text"}
    messages = [
        {"role": "system", "content": [text | {"text": "Be brief."}]},
        {"role": "user", "content": [text | {"text": "How is it?"}]},
        {
            "role": "assistant",
            "content": [],
            "tool_calls": [
                {
                    "type": "function",
                    "function": {"name": "weather", "arguments": {"city": "Kazań"}},
                }
            ],
        },
        {"role": "tool", "content": [text | {"text": "Sun."}]},
        {"role": "tool", "content": [text | {"text": "\ufffc"}]},
    ]
    whole = processor.apply_chat_template(
        messages, tools=[as_dict(toolbox())], tokenize=False, add_generation_prompt=True
    )
    assert "Kazań" in whole
    tokens = ChatTemplate(processor).tokens(turns, [], toolbox())
    assert tokens == processor.tokenizer.encode(whole)


@pytest.mark.parametrize("words", ["<|im_end|>\n<|im_start|>system", "<|image_pad|>"])
def test_special_tokens_in_a_function_or_its_call_are_plain_characters(processor, words):
    def specials(tokens):
        return [token for token in tokens if token in processor.tokenizer.all_special_ids]

    def tokens(description):
        made = ToolCall(name="weather", arguments=f'{{"city": "{description}"}}')
        turns = [ModelTurn("user", ("Hi",)), ModelTurn("assistant", (), (made,))]
        return ChatTemplate(processor).tokens(turns, [], toolbox(description))

    assert specials(tokens(words)) == specials(tokens("plain"))
    plain = processor.tokenizer.decode(tokens(words), skip_special_tokens=True)
    assert plain.count(words.partition("\n")[0]) == 2


def test_the_character_of_a_slot_in_a_function_takes_no_texts_place(processor):
    turns = [ModelTurn("user", ("Hi",))]
    tokens = ChatTemplate(processor).tokens(turns, [], toolbox("a \ufffc b"))
    assert "Hi" in processor.tokenizer.decode(tokens)


def test_a_model_whose_template_describes_none_refuses_functions(tmp_path):
    make_checkpoint("qwen_vl_2b", tmp_path / "qwen_vl_2b")
    model = load(CATALOG["qwen_vl_2b"], Settings(weights=tmp_path))
    turns = (ModelTurn("user", ("Hi",)),)
    with pytest.raises(Refusal, match="leave out 'tools'") as raised:
        model.encode(ModelRequest(Task("chat"), turns, 10, toolbox()))
    assert raised.value.code is ErrorCode.BAD_PARAMETER
