"""Whether every row gets the tokens that the library's `generate` gives it alone."""

import importlib
import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from benchmarks.gpu.rows import use_graphs
from benchmarks.support.schemes import make_batcher, make_row
from common.catalog import CATALOG
from runners.transformers_models.transformers_vlm import TransformersVlm
from runners.vlm.interface import Encoded
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.prompts import ocr, page

FAMILIES = ("qwen3_vl_2b", "qwen_vl_2b", "got_ocr", "dots_ocr")
_NEW_TOKENS = 24


def check_exact() -> None:
    """Raises `AssertionError` if a row's tokens are not those of `generate`.

    Rows join while others run, in slices of prompts, packed, and with prefixes that are shared.
    """
    print("| model | device | from graphs | without graphs |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        wrong = [model for model in FAMILIES if not _is_exact(model, Path(folder))]
    assert not wrong, f"tokens differ from those of generate: {', '.join(wrong)}"


def _is_exact(model: str, weights: Path) -> bool:
    checkpoint = make_checkpoint(model, weights / model)
    entry = CATALOG[model]
    family = importlib.import_module(f"runners.families.{entry.family}")
    vlm: TransformersVlm = family.load(entry, Settings(weights=weights, dtype="float32"))
    plain = type(vlm.model).from_pretrained(checkpoint, dtype=torch.float32).to(vlm.device).eval()
    pages = [page(200 + 60 * number, 150 + 40 * number, number) for number in range(6)]
    prompts = [vlm.encode(ocr(picture)) for picture in pages]
    prompts += prompts[:2]
    alone = [generated(plain, prompt, vlm.stop_tokens) for prompt in prompts]
    found = []
    for graphs in (True, False):
        use_graphs(vlm, graphs)
        equal = sum(a == b for a, b in zip(decoded(vlm, prompts), alone, strict=True))
        found.append(equal)
    cells = " | ".join(
        f"{'equal' if equal == len(alone) else 'DIFFERENT'} in {equal} of {len(alone)} rows"
        for equal in found
    )
    print(f"| {model} | {vlm.device} | {cells} |", flush=True)
    return min(found) == len(alone)


@torch.inference_mode()
def generated(plain: PreTrainedModel, prompt: Encoded, stop: frozenset[int]) -> list[int]:
    """What the library's `generate` makes of a prompt alone, up to a stop token."""
    tokens = prompt.tokens[None].to(plain.device)
    inputs = {name: tensor.to(plain.device) for name, tensor in prompt.pixels.items()}
    if "mm_token_type_ids" in inspect.signature(plain.forward).parameters:
        images = torch.zeros_like(prompt.tokens)
        images[prompt.visual] = 1
        inputs["mm_token_type_ids"] = images[None].to(plain.device)
    made = plain.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=_NEW_TOKENS,
        do_sample=False,
        **inputs,
    )
    new: list[int] = made[0, tokens.shape[1] :].tolist()
    ends = [place for place, token in enumerate(new) if token in stop]
    return new[: ends[0]] if ends else new


def decoded(vlm: TransformersVlm, prompts: Sequence[Encoded]) -> list[list[int]]:
    """The tokens of rows of which one joins at every second step, prefilled in short slices."""
    batcher = make_batcher(vlm, token_gap=0.0)
    rows = [make_row(prompt, _NEW_TOKENS) for prompt in prompts]
    for row in rows:
        batcher.submit(row)
        batcher.step()
        batcher.step()
    while batcher.step():
        pass
    batcher.close()
    return [row.future.result(timeout=0).tokens for row in rows]
