"""The computed memory of a checkpoint beside what the library loads of it."""

import json
import math
import shutil
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.catalog import CATALOG
from runners.checkpoints import weights
from runners.checkpoints.footprint import loaded_bytes
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.entries import QWEN2_5_VL, listed

ENTRY = CATALOG["qwen3_vl_2b"]
FP8 = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "weight_block_size": [32, 32],
    "modules_to_not_convert": ["model.visual", "lm_head"],
}
H100, A100 = (9, 0), (8, 0)


@pytest.fixture(params=["float32", "bfloat16", "float16"])
def dtype(request):
    if request.param == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no products in bfloat16 to pack for")
    return request.param


@pytest.fixture
def folder(tmp_path):
    """A tiny checkpoint in float32, whose output projection is its embedding."""
    return make_checkpoint(ENTRY.id, tmp_path / ENTRY.id)


def load(entry, settings):
    return import_module(f"runners.families.{entry.family}").load(entry, settings)


def parameters_of(vlm):
    """Those of the vision tower, the embeddings and the decoder; of a shared weight once."""
    parameters = torch.nn.ModuleList([vlm.model, vlm.decoder]).parameters()
    return {id(p) if p.is_mkldnn else p.data_ptr(): p for p in parameters}.values()


def bytes_of_parameters(vlm):
    # The decoder keeps the norms of queries and keys as one table for all heads.
    norms = sum(
        2 * layer.head_size * vlm.dtype.itemsize
        for layer in vlm.decoder.layers
        if layer.head_weight is not None
    )
    return norms + sum(parameter.nbytes for parameter in parameters_of(vlm))


def rewrite(folder, change):
    """Changes the tensors of a checkpoint of one file; `change` gets and returns them by name."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def configure(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def in_fp8(tensors):
    """As the official FP8 checkpoints are: the language model's projections, with scales."""
    quantised = {}
    for name, tensor in tensors.items():
        quantised[name] = tensor
        if "language_model.layers" in name and name.endswith("proj.weight"):
            quantised[name] = tensor.to(torch.float8_e4m3fn)
            quantised[f"{name}_scale_inv"] = torch.ones(
                [math.ceil(side / 32) for side in tensor.shape]
            )
    return quantised


def computed(folder, *, width=2, capability=None, packs_output=False):
    """What is computed of a folder that has one file."""
    return loaded_bytes(
        [folder / "model.safetensors"],
        json.loads((folder / "config.json").read_text()),
        bytes_per_number=width,
        gpu_capability=capability,
        packs_output=packs_output,
    )


@pytest.mark.parametrize(
    "entry", [*(entry for entry in CATALOG.values() if entry.repository), QWEN2_5_VL]
)
def test_it_is_what_a_loaded_model_of_every_family_holds(entry, tmp_path, dtype):
    make_checkpoint(entry.id, tmp_path / entry.id)
    settings = Settings(weights=tmp_path, dtype=dtype)
    with listed(entry.id):
        vlm = load(entry, settings)
    needed = weights.memory_bytes(entry, settings)
    assert needed == bytes_of_parameters(vlm)
    # The model computes a few tables itself, and repeats the norms of queries and keys.
    assert needed == pytest.approx(vlm.weights_bytes, rel=0.002)


@pytest.mark.parametrize(
    ("gpu", "is_fast", "dtype", "width"),
    [
        (None, True, "auto", 2),
        (None, False, "auto", 4),
        (None, False, "bfloat16", 2),
        (None, False, "float16", 2),
        ("NVIDIA L4", False, "auto", 2),
        ("NVIDIA L4", True, "float32", 4),
    ],
)
def test_it_goes_by_the_dtype_that_is_computed_in(folder, monkeypatch, gpu, is_fast, dtype, width):
    monkeypatch.setattr("common.devices.gpu_name", lambda: gpu)
    monkeypatch.setattr("common.devices.cpu_is_fast_in_bfloat16", lambda: is_fast)
    settings = Settings(weights=folder.parent, dtype=dtype)
    file = folder / "model.safetensors"
    shapes = {name: tensor.shape for name, tensor in load_file(file).items()}
    assert "lm_head.weight" not in shapes
    count = sum(map(math.prod, shapes.values()))
    if gpu is None and dtype != "float16":  # the packed output projection
        count += math.prod(shapes["model.language_model.embed_tokens.weight"])
    shutil.copy(file, folder / "adapter.safetensors")  # which is not loaded
    assert weights.memory_bytes(ENTRY, settings) == count * width
    file.write_bytes(file.read_bytes()[:-1000])
    assert weights.memory_bytes(ENTRY, settings) == ENTRY.weights_gib * 2**30 * width / 2


@pytest.mark.parametrize("stored", [torch.float64, torch.float16, torch.float8_e4m3fn])
def test_numbers_of_any_width_are_converted(folder, dtype, stored):
    rewrite(folder, lambda tensors: {name: t.to(stored) for name, t in tensors.items()})
    settings = Settings(weights=folder.parent, dtype=dtype)
    vlm = load(ENTRY, settings)
    assert weights.memory_bytes(ENTRY, settings) == bytes_of_parameters(vlm)


def test_fp8_is_converted_on_the_cpu(folder, dtype):
    rewrite(folder, in_fp8)
    configure(folder, quantization_config=FP8)
    settings = Settings(weights=folder.parent, dtype=dtype)
    held = bytes_of_parameters(load(ENTRY, settings))
    # The scales count, but are not kept.
    assert weights.memory_bytes(ENTRY, settings) == pytest.approx(held, rel=0.001)


def test_fp8_stays_on_a_gpu_that_computes_in_it(folder, dtype, monkeypatch):
    rewrite(folder, in_fp8)
    configure(folder, quantization_config=FP8)
    with monkeypatch.context() as patched:  # as far as the quantiser can tell
        patched.setattr("torch.cuda.is_available", lambda: True)
        patched.setattr("torch.cuda.get_device_capability", lambda *_: H100)
        vlm = load(ENTRY, Settings(weights=folder.parent, dtype=dtype))
    assert torch.float8_e4m3fn in {parameter.dtype for parameter in parameters_of(vlm)}
    width = 4 if dtype == "float32" else 2
    packs_output = dtype != "float16"
    assert computed(
        folder, width=width, capability=H100, packs_output=packs_output
    ) == bytes_of_parameters(vlm)


def test_the_gpu_and_the_config_decide_whether_fp8_stays(folder, monkeypatch):
    plain = computed(folder)
    rewrite(folder, in_fp8)
    configure(folder, quantization_config=FP8)
    in_16_bits, in_8_bits = computed(folder), computed(folder, capability=H100)
    assert in_8_bits < plain < in_16_bits < plain * 1.001
    assert computed(folder, capability=A100) == in_16_bits
    assert computed(folder, capability=(8, 9)) == in_8_bits
    configure(folder, quantization_config=None, text_config={"quantization_config": FP8})
    assert computed(folder, capability=H100) == in_8_bits
    configure(folder, quantization_config=FP8 | {"dequantize": True})
    assert computed(folder, capability=H100) == in_16_bits
    configure(folder, quantization_config=FP8)
    monkeypatch.setattr("common.devices.gpu_name", lambda: "NVIDIA H100")
    monkeypatch.setattr("common.devices.gpu_capability", lambda: H100)
    assert weights.memory_bytes(ENTRY, Settings(weights=folder.parent)) == in_8_bits


QUANTISED = {
    "gptq": {
        "q_proj.qweight": torch.zeros(4, 8, dtype=torch.int32),
        "q_proj.qzeros": torch.zeros(2, 1, dtype=torch.int32),
        "q_proj.g_idx": torch.zeros(32, dtype=torch.int32),
        "q_proj.scales": torch.zeros(2, 8, dtype=torch.float16),
    },
    "awq": {
        "q_proj.qweight": torch.zeros(32, 1, dtype=torch.int32),
        "q_proj.qzeros": torch.zeros(2, 1, dtype=torch.int32),
        "q_proj.scales": torch.zeros(2, 8, dtype=torch.float16),
    },
    "bitsandbytes": {
        "q_proj.weight": torch.zeros(128, 1, dtype=torch.uint8),
        "q_proj.weight.absmax": torch.zeros(4, dtype=torch.uint8),
        "q_proj.weight.nested_absmax": torch.zeros(1),
        "q_proj.weight.quant_map": torch.zeros(16),
        "q_proj.weight.quant_state.bitsandbytes__nf4": torch.zeros(80, dtype=torch.uint8),
    },
    "fbgemm_fp8": {
        "q_proj.weight": torch.zeros(8, 32, dtype=torch.float8_e5m2),
        "q_proj.weight_scale": torch.zeros(8, 1),
    },
}


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("method", QUANTISED)
def test_quantised_layers_count_as_they_are_stored_and_others_are_converted(
    tmp_path, method, width
):
    layer = {f"model.layers.0.{name}": tensor for name, tensor in QUANTISED[method].items()}
    norm = torch.zeros(32, dtype=torch.float16)
    save_file(layer | {"model.layers.0.norm.weight": norm}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"quantization_config": {"quant_method": method}})
    )
    stored = sum(tensor.nbytes for tensor in layer.values())
    assert computed(tmp_path, width=width, capability=A100) == stored + 32 * width


NEW_METHOD = {"quantization_config": {"quant_method": "new"}}


@pytest.mark.parametrize(
    ("dtype", "stored", "config"),
    [
        ("F4", 8, NEW_METHOD),
        ("I64", 128, NEW_METHOD),
        ("I64", 128, {}),
        ("BOOL", 16, {}),
        ("SOMETHING_NEW", 5, NEW_METHOD),
        ("SOMETHING_NEW", 5, {}),
    ],
)
def test_other_data_types_count_as_they_are_stored(tmp_path, dtype, stored, config):
    write_header(
        tmp_path / "model.safetensors",
        {"layer.weight": {"dtype": dtype, "shape": [4, 4], "data_offsets": [3, 3 + stored]}},
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert computed(tmp_path) == stored


def write_header(file, tensors):
    header = json.dumps({"__metadata__": {"format": "pt"}} | tensors).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)


def test_every_shard_counts_and_a_tensor_in_two_of_them_once(folder, tmp_path):
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    shards = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    save_file({name: tensors[name] for name in names[:20]}, shards[0])
    save_file({name: tensors[name] for name in names[19:]}, shards[1])
    arguments = {"bytes_per_number": 2, "gpu_capability": None, "packs_output": True}
    assert loaded_bytes(shards, {}, **arguments) == loaded_bytes([whole], {}, **arguments)


def test_an_output_projection_of_its_own_counts_as_it_is(folder):
    embedding = "model.language_model.embed_tokens.weight"
    once, twice = computed(folder), computed(folder, packs_output=True)
    size = 2 * load_file(folder / "model.safetensors")[embedding].numel()
    assert twice == once + size
    rewrite(folder, lambda tensors: tensors | {"lm_head.weight": tensors[embedding].clone()})
    assert computed(folder) == computed(folder, packs_output=True) == twice
