import pytest
from tokenizers import AddedToken

from common.messages import Tool, Toolbox
from runners.constraints.guide import Guide
from runners.constraints.vocabulary import vocabulary_of
from runners.tool_calls.qwen import call_grammar
from tests.support.models.checkpoints import QWEN_SPECIALS, make_tokenizer

SIZE = 512
"""Columns of the logits, of which the tokenizer knows fewer, as Qwen's do."""


@pytest.fixture(scope="module")
def tokenizer():
    made = make_tokenizer(QWEN_SPECIALS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    # On the hub these are tokens of their own, but not special ones.
    marks = [AddedToken(mark, special=False) for mark in ("<tool_call>", "</tool_call>")]
    made.add_tokens(marks)
    return made


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return vocabulary_of(tokenizer, SIZE, {tokenizer.eos_token_id, tokenizer.pad_token_id})


def test_it_is_as_wide_as_the_logits_and_knows_all_stop_tokens(tokenizer, vocabulary):
    assert vocabulary.vocab_size == SIZE
    assert set(vocabulary.eos_tokens) == {tokenizer.eos_token_id, tokenizer.pad_token_id}


TIME = Tool(name="time", description=None, parameters={})
CALL = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'


def takes(vocabulary, tokens: list[int], **more: bool) -> bool:
    """Whether an answer with functions may consist of these tokens."""
    box = Toolbox(tools=(TIME,), callable=("time",), **more)
    matcher = Guide(vocabulary, call_grammar(box, None, vocabulary)).matcher
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("parallel", [False, True])
def test_a_call_may_be_made_of_the_models_own_tokens(tokenizer, vocabulary, required, parallel):
    one = tokenizer.encode(CALL, add_special_tokens=False)
    assert one[0] == tokenizer.convert_tokens_to_ids("<tool_call>")
    two = tokenizer.encode(f"{CALL}\n{CALL}", add_special_tokens=False)
    asked = {"required": required, "parallel": parallel}
    assert takes(vocabulary, one, **asked)
    assert takes(vocabulary, two, **asked) is parallel


def test_no_text_is_made_of_special_tokens(tokenizer, vocabulary):
    assert takes(vocabulary, tokenizer.encode("Hi", add_special_tokens=False))
    assert not takes(vocabulary, [tokenizer.convert_tokens_to_ids("<|im_start|>")])
