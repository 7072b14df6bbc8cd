"""Tells llguidance what the tokens of a model are."""

from collections.abc import Collection

from llguidance import LLTokenizer
from llguidance.hf import from_tokenizer
from transformers import PreTrainedTokenizerBase


def vocabulary_of(
    tokenizer: PreTrainedTokenizerBase, size: int, stop_tokens: Collection[int]
) -> LLTokenizer:
    """The vocabulary of a tokenizer; takes about a second. size: columns of the model's logits."""
    return from_tokenizer(tokenizer, n_vocab=size, eos_token=sorted(stop_tokens))
