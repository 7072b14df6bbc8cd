"""How fast pages are read that are prefilled together."""

from torch import nn

from benchmarks.gpu.machine import DEVICE, Speed, timed, waits_of
from benchmarks.support.large_qwen import make_model
from benchmarks.support.random_qwen import Asked as Question
from benchmarks.support.schemes import encode
from runners.decoder.part import Part
from runners.families.qwen_vl import QwenVl
from runners.vlm.interface import Encoded, RowPart
from tests.support.models.prompts import page

_SIDE, _TINY_SIDE = 1000, 120
"""Pixels of the sides of a page; the large one becomes about 1,000 tokens."""
_TARGET = 0.4
"""Of the measured peak, for pages packed."""


def measure_prefill(tiny: bool, speed: Speed) -> None:
    vlm = make_model("2B", tiny, DEVICE)
    side = _TINY_SIDE if tiny else _SIDE
    print(f"Pages in one forward each of the tower and of the decoder; target: {_TARGET:.0%}\n")
    print("| pages | tokens | what | ms | tokens/s | of peak | waits for the device |")
    print("|---|---|---|---|---|---|---|")
    for count in (1, 2 if tiny else 8):
        questions = [Question(page(side, side, n), "What is this?", 1) for n in range(count)]
        _measure(vlm, [encode(vlm, question) for question in questions], speed)


def _measure(vlm: QwenVl, prompts: list[Encoded], speed: Speed) -> None:
    size = vlm.pool.block_size
    blocks = [-(-prompt.length // size) for prompt in prompts]
    vlm.pool.resize(sum(blocks), ())
    features = vlm.encode_images(prompts, _nothing)
    asked = []
    for index, (prompt, seen) in enumerate(zip(prompts, features, strict=True)):
        first = sum(blocks[:index])
        own = range(first, first + blocks[index])
        asked.append(RowPart(prompt, (), Part(own, 0, prompt.length), seen))
    tokens = sum(prompt.length for prompt in prompts)

    def encode_images() -> None:
        vlm.forget()
        vlm.encode_images(prompts, _nothing)

    work = {
        "tower": (encode_images, _tower_operations(vlm, prompts)),
        "decoder": (lambda: vlm.prefill(asked), _decoder_operations(vlm, prompts)),
    }
    for name, (run, operations) in work.items():
        seconds = timed(run, 5)
        print(
            f"| {len(prompts)} | {tokens} | {name} | {1000 * seconds:.1f} | {tokens / seconds:.0f} "
            f"| {operations / seconds / speed.products:.0%} | {waits_of(run):.0f} |",
            flush=True,
        )
    vlm.pool.resize(0, ())


def _nothing() -> None: ...


def _decoder_operations(vlm: QwenVl, prompts: list[Encoded]) -> float:
    """Floating-point operations of the layers' products and of causal attention."""
    tokens = sum(prompt.length for prompt in prompts)
    config = vlm.model.config.get_text_config()
    width = config.num_attention_heads * config.head_dim
    pairs = sum(prompt.length**2 / 2 for prompt in prompts)
    attention = 4 * width * pairs * config.num_hidden_layers
    return 2 * _numbers(vlm.decoder.layers) * tokens + attention


def _tower_operations(vlm: QwenVl, prompts: list[Encoded]) -> float:
    """The same of the tower, whose patches of an image all see each other."""
    patches = [len(prompt.pixels["pixel_values"]) for prompt in prompts]
    config = vlm.model.config.vision_config
    attention = 4 * config.hidden_size * sum(count**2 for count in patches) * config.depth
    return 2 * _numbers(vlm.tower_blocks) * sum(patches) + attention


def _numbers(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers()))
