"""The time of a step whose rows are held to a JSON schema, beside one whose rows are not.

    .venv/bin/python -m benchmarks.constraints

On a GPU the model is a random Qwen3-VL 2B, else the small one of the other benchmarks.
"""

import argparse
import random
import statistics
import string
import tempfile
import time
from pathlib import Path

import torch
from llguidance import LLTokenizer, TokenizerWrapper

from benchmarks.gpu.rows import make_prompts
from benchmarks.support.large_qwen import make_model
from benchmarks.support.random_qwen import VOCABULARY, load_served, make_weights
from benchmarks.support.schemes import make_batcher, make_row
from common.constraints.json_schemas import schema_grammar
from runners.constraints.guide import Guide
from runners.families.qwen_vl import QwenVl
from runners.scheduling.row import Sampling
from runners.vlm.interface import Encoded

SCHEMA = {
    "type": "object",
    "properties": {
        "number": {"type": "string", "maxLength": 40},
        "date": {"type": "string", "format": "date"},
        "items": {
            "type": "array",
            "minItems": 50,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "kind": {"enum": ["goods", "service", "delivery"]},
                    "price": {"type": "number", "minimum": 0, "maximum": 9999},
                },
                "required": ["name", "kind", "price"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["number", "date", "items"],
    "additionalProperties": False,
}
_STEPS, _WARM = 60, 5
_MOST_TOKENS = 1000
"""More than a row makes: it makes some while others are prefilled."""
_TARGET = 1.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a model for tests of this command")
    arguments = parser.parse_args()
    vlm = _model(arguments.tiny)
    vocabulary = LLTokenizer(TokenizerWrapper(_Words()), n_vocab=_vocabulary_size(vlm))
    prompts = make_prompts(vlm, arguments.rows, tiny=True)
    free, held = [], []
    for number in range(arguments.rounds):
        free += _steps(vlm, prompts, None, number)
        held += _steps(vlm, prompts, vocabulary, number)
    plain, constrained = 1000 * statistics.median(free), 1000 * statistics.median(held)
    print(f"{arguments.rows} rows on {vlm.device}, {_vocabulary_size(vlm)} tokens\n")
    print("| rows without a schema, ms | rows with one, ms | ratio | target |")
    print("|---|---|---|---|")
    print(f"| {plain:.2f} | {constrained:.2f} | {constrained / plain:.3f} | {_TARGET} |")


def _model(tiny: bool) -> QwenVl:
    if torch.cuda.is_available() or tiny:
        return make_model("2B", tiny, "cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        make_weights(Path(folder))
        return load_served(Path(folder), torch.float32)


def _vocabulary_size(vlm: QwenVl) -> int:
    return vlm.decoder.embedding.num_embeddings


def _steps(
    vlm: QwenVl, prompts: list[Encoded], vocabulary: LLTokenizer | None, seed: int
) -> list[float]:
    """Seconds of each step, with the guides of all rows if there is a vocabulary."""
    batcher = make_batcher(vlm, 3600.0)
    rows = [
        make_row(prompt, _MOST_TOKENS, Sampling(1.0, 100 * seed + number))
        for number, prompt in enumerate(prompts)
    ]
    for row in rows:
        if vocabulary is not None:
            row.guide = Guide(vocabulary, schema_grammar(SCHEMA))
        batcher.submit(row)
    while not all(row.tokens for row in rows):
        batcher.step()
    seconds = []
    for number in range(_WARM + _STEPS):
        began = time.perf_counter()
        batcher.step()  # which waits for its tokens
        if number >= _WARM:
            seconds.append(time.perf_counter() - began)
    assert not any(row.future.done() for row in rows), "a row ended too early"
    batcher.close()
    return seconds


class _Words:
    """A vocabulary as large as a real one: bytes, pieces of JSON, and random words."""

    eos_token_id = 256
    bos_token_id = None
    special_token_ids = (256,)

    def __init__(self) -> None:
        dice = random.Random(0)
        words = {f"{a}{b}" for a in '{}[]":, ' for b in '{}[]":, '} | {f"{n}" for n in range(1000)}
        while len(words) < VOCABULARY - 257:
            word = "".join(dice.choices(string.ascii_lowercase, k=dice.randint(2, 9)))
            words.add(dice.choice(("", " ")) + dice.choice((word, word.title())))
        texts = [word.encode() for word in sorted(words)]
        self.tokens = [*(bytes([value]) for value in range(256)), b"<end>", *texts]

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


if __name__ == "__main__":
    main()
