"""Quantised checkpoints, and plain ones that are quantised, beside the library's own model."""

import shutil

import pytest
import torch
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, CompressedTensorsConfig

from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from runners.checkpoints import quantisation, weights
from runners.checkpoints.quantising import computing_dtype, convert_plain_parameters
from runners.families import got_ocr, qwen_vl
from settings import Settings
from tests.support.models.checkpoint_files.quantised import KEPT, QUANTISED, quantise
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.greedy import first_logits, first_logits_of_library
from tests.support.models.prompts import chat, ocr, page

ENTRY = CATALOG["qwen3_vl_2b"]
ON_LOADING = {
    "int8": lambda: BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=KEPT),
    "int4": lambda: BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=KEPT
    ),
}
COMPRESSED = [how for how in QUANTISED if how.startswith("compressed-tensors")]
LARGEST_ERROR = {"int8": 0.15, "fp8": 0.5, "int4": 0.9, "nf4": 0.9}
"""Of the first logits, relative to those of float32. The attention of these random weights is so
sharp that they show far more of it than trained weights would."""

ROUNDING = {"int8": 0.02, "fp8": 0.02, "int4": 0.15, "nf4": 0.15}
"""How far these may be from the library's own. On some CPUs bitsandbytes computes products of 4
bits in bfloat16."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_checkpoint(ENTRY.id, tmp_path_factory.mktemp("plain") / ENTRY.id)


@pytest.fixture(scope="module", params=QUANTISED)
def quantised(request, plain, tmp_path_factory):
    """A quantised checkpoint, and how it is."""
    folder = shutil.copytree(plain, tmp_path_factory.mktemp("quantised") / ENTRY.id)
    quantise(folder, request.param)
    return folder, request.param


def load(folder, **settings):
    return qwen_vl.load(ENTRY, Settings(weights=folder.parent, **{"dtype": "float32"} | settings))


def error_of(vlm, plain) -> float:
    """Of the first logits, beside those of the plain checkpoint in float32."""
    prompt = ocr(page(100, 100))
    exact, own = (first_logits(one, one.encode(prompt)) for one in (load(plain), vlm))
    return float((own - exact).norm() / exact.norm())


def difference(vlm, reference) -> float:
    """Of the first logits of two prompts, beside those of the library's own model."""
    encoded = [vlm.encode(p) for p in (ocr(page(200, 120)), chat(page(64, 64), "What is this?"))]
    own = torch.stack([first_logits(vlm, one) for one in encoded])
    others = torch.stack([first_logits_of_library(reference, one) for one in encoded])
    return float((own - others).norm() / others.norm())


def test_a_quantised_checkpoint_gets_the_logits_of_the_library(quantised):
    folder, how = quantised
    decoded = {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    reference = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, **(decoded if how in COMPRESSED else {})
    ).eval()
    convert_plain_parameters(reference, torch.float32)
    assert difference(load(folder), reference) < ROUNDING[how.split()[1]]


def test_it_reads_nearly_as_the_plain_one(quantised, plain):
    folder, how = quantised
    assert 0 < error_of(load(folder), plain) < LARGEST_ERROR[how.split()[1]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_its_memory_is_computed_from_its_files(quantised, dtype):
    folder, how = quantised
    if dtype == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no products in bfloat16 to pack for")
    vlm = load(folder, dtype=dtype)
    needed = weights.memory_bytes(ENTRY, Settings(weights=folder.parent, dtype=dtype))
    assert needed == pytest.approx(vlm.weights_bytes, rel=0.006)
    assert vlm.decoder.is_quantised == (how not in COMPRESSED)


@pytest.mark.parametrize("how", ON_LOADING)
def test_weights_quantised_while_they_are_loaded_get_the_logits_of_the_library(plain, how):
    reference = AutoModelForImageTextToText.from_pretrained(
        plain, dtype=torch.float32, quantization_config=ON_LOADING[how]()
    ).eval()
    assert difference(load(plain, quantize=how), reference) < ROUNDING[how]


@pytest.mark.parametrize("how", ON_LOADING)
def test_they_take_less_memory_as_it_was_computed(plain, how):
    settings = Settings(weights=plain.parent, dtype="float32", quantize=how)
    vlm = load(plain, quantize=how)
    whole = load(plain).weights_bytes
    needed = weights.memory_bytes(ENTRY, settings)
    assert needed == pytest.approx(vlm.weights_bytes, rel=0.003)
    projections = sum(
        product.weight.numel()
        for layer in load(plain).decoder.layers
        for product in (layer.qkv, layer.output, layer.gate_up, layer.down)
    )
    saved = {"int8": 3, "int4": 3.5}[how] * projections
    assert whole - vlm.weights_bytes == pytest.approx(saved, rel=0.03)


@pytest.mark.parametrize("how", ON_LOADING)
def test_they_read_nearly_as_before(plain, how):
    assert 0 < error_of(load(plain, quantize=how), plain) < LARGEST_ERROR[how]


def test_only_the_language_model_of_a_family_is_quantised(tmp_path):
    make_checkpoint("got_ocr", tmp_path / "got_ocr")
    entry = CATALOG["got_ocr"]
    settings = Settings(weights=tmp_path, dtype="float32", quantize="int8")
    vlm = got_ocr.load(entry, settings)
    of_tower = {p.dtype for p in vlm.model.model.vision_tower.parameters()}
    assert of_tower == {torch.float32}
    assert vlm.decoder.is_quantised
    assert weights.memory_bytes(entry, settings) == pytest.approx(vlm.weights_bytes, rel=0.003)


def test_a_checkpoint_that_is_quantised_is_not_quantised_again(quantised):
    folder, _ = quantised
    vlm = load(folder, quantize="int4")
    assert vlm.weights_bytes == load(folder).weights_bytes


@pytest.mark.parametrize(
    ("method", "on_gpu", "expected"),
    [
        ("awq", True, torch.float16),
        ("gptq", True, torch.float16),
        ("awq", False, torch.bfloat16),
        ("bitsandbytes", True, torch.bfloat16),
        (None, True, torch.bfloat16),
    ],
)
def test_on_a_gpu_some_methods_compute_in_float16_only(method, on_gpu, expected):
    config = {"quantization_config": {"quant_method": method}} if method else {}
    assert computing_dtype(config, torch.bfloat16, on_gpu) is expected


def test_a_missing_package_is_told_before_anything_is_loaded(quantised, monkeypatch):
    folder, how = quantised
    monkeypatch.setattr(quantisation, "find_spec", lambda name: None)
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", pytest.fail)
    with pytest.raises(Refusal, match=f"pip install {how.split()[0]}") as refused:
        load(folder)
    assert refused.value.code is ErrorCode.UNAVAILABLE
    settings = Settings(weights=folder.parent)
    assert weights.why_unavailable(ENTRY, settings) == refused.value.failure.detail
