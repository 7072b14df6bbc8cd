import json
import logging
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from runners.checkpoints import loading
from runners.families import qwen_vl
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.greedy import first_logits
from tests.support.models.prompts import chat, ocr, page

ENTRY = CATALOG["qwen_vl_2b"]


@pytest.fixture
def checkpoint(tmp_path):
    return make_checkpoint(ENTRY.id, tmp_path / ENTRY.id)


@pytest.fixture
def settings(tmp_path):
    return Settings(weights=tmp_path, dtype="float32")


def refusal(settings):
    with pytest.raises(Refusal) as refused:
        qwen_vl.load(ENTRY, settings)
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert "/" not in refused.value.failure.detail.replace(ENTRY.repository, "").replace(
        f"CHATVLM_WEIGHTS/{ENTRY.id}", ""
    )
    return refused.value.failure.detail


def edit_config(checkpoint, **fields):
    config = checkpoint / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))


def test_a_loaded_model_is_ready_for_inference(checkpoint, settings):
    vlm = qwen_vl.load(ENTRY, settings)
    assert not vlm.model.training
    assert not any(parameter.requires_grad for parameter in vlm.model.parameters())
    assert (vlm.device, vlm.dtype) == (torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("entry", [entry for entry in CATALOG.values() if entry.repository])
def test_every_vision_language_model_loads_a_checkpoint_of_its_kind(entry, tmp_path, settings):
    make_checkpoint(entry.id, tmp_path / entry.id)
    vlm = import_module(f"runners.families.{entry.family}").load(entry, settings)
    logits = first_logits(vlm, vlm.encode(ocr(page(100, 100))))
    assert logits.isfinite().all()


def test_files_without_a_chat_template_are_refused_by_name(checkpoint, settings):
    (checkpoint / "chat_template.json").unlink()
    edit_tokenizer_config(checkpoint, chat_template=None)
    detail = refusal(settings)
    assert "there is no chat template (chat_template.json, chat_template.jinja, or" in detail
    assert detail.startswith(f"The files of {ENTRY.name} do not fit")


def test_a_chat_template_that_leaves_out_images_is_refused(checkpoint, settings):
    template = "{% for m in messages %}{{ m.content[-1].text }}{% endfor %}"
    (checkpoint / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert "does not write images and texts in turns" in refusal(settings)


def test_the_chat_template_of_the_tokenizer_s_files_counts(checkpoint, settings):
    asked = chat(page(100, 100), "What is this?")
    tokens = qwen_vl.load(ENTRY, settings).encode(asked).tokens
    (checkpoint / "chat_template.json").unlink()
    assert torch.equal(qwen_vl.load(ENTRY, settings).encode(asked).tokens, tokens)


def edit_tokenizer_config(checkpoint, **fields):
    file = checkpoint / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_setting_forces_the_dtype(checkpoint, settings, dtype):
    vlm = qwen_vl.load(ENTRY, settings.model_copy(update={"dtype": dtype}))
    assert vlm.dtype is getattr(torch, dtype)


@pytest.mark.parametrize(("is_fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_computes_in_bfloat16_only_where_it_is_fast_at_it(
    checkpoint, settings, monkeypatch, is_fast, dtype
):
    monkeypatch.setattr("common.devices.cpu_is_fast_in_bfloat16", lambda: is_fast)
    assert qwen_vl.load(ENTRY, settings.model_copy(update={"dtype": "auto"})).dtype is dtype


def test_a_device_that_is_too_small_is_called_so(checkpoint, settings, monkeypatch):
    def runs_out(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    step = "transformers.Qwen2VLForConditionalGeneration.from_pretrained"
    monkeypatch.setattr(step, runs_out)
    with pytest.raises(Refusal, match="too little free memory to load Qwen2-VL 2B") as refused:
        qwen_vl.load(ENTRY, settings)
    assert refused.value.code is ErrorCode.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("dtype", "supported", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float16),
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
    ],
)
def test_a_gpu_computes_in_bfloat16_if_it_supports_it(
    settings, monkeypatch, dtype, supported, expected
):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: supported)
    monkeypatch.setattr("common.devices.cpu_is_fast_in_bfloat16", lambda: False)
    settings = settings.model_copy(update={"dtype": dtype})
    assert loading._dtype(settings, on_gpu=True) is expected


def test_weights_of_another_family_are_refused(tmp_path, settings):
    make_checkpoint("got_ocr", tmp_path / ENTRY.id)
    assert "another model ('got_ocr2')" in refusal(settings)


def test_weights_that_lack_a_tensor_are_refused(checkpoint, settings):
    tensors = load_file(checkpoint / "model.safetensors")
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    del tensors[name]
    save_file(tensors, checkpoint / "model.safetensors", {"format": "pt"})
    assert "do not fit the model (missing: " in refusal(settings)


def test_weights_of_another_shape_are_refused_and_the_reason_logged(checkpoint, settings, caplog):
    tensors = load_file(checkpoint / "model.safetensors")
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    tensors[name] = tensors[name][:8].contiguous()
    save_file(tensors, checkpoint / "model.safetensors", {"format": "pt"})
    with caplog.at_level(logging.ERROR, "runners.checkpoints.loading"):
        assert "damaged or of another version" in refusal(settings)
    assert caplog.records[0].exc_info


def test_a_broken_tokenizer_is_refused(checkpoint, settings):
    (checkpoint / "tokenizer.json").write_text("{}")
    assert "damaged or of another version" in refusal(settings)


def test_a_gpu_that_is_not_there_is_refused(checkpoint, settings):
    detail = refusal(settings.model_copy(update={"devices": {ENTRY.id: (99,)}}))
    assert "CHATVLM_DEVICES" in detail
    assert "GPU 99" in detail


def test_gpus_are_chosen_by_the_setting(settings, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert loading._device_map_arguments(ENTRY, settings) == {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (1000 + gpu, 2000))

    def arguments(**devices):
        return loading._device_map_arguments(
            ENTRY, settings.model_copy(update={"devices": devices})
        )

    assert arguments() == {"device_map": {"": 0}}
    assert arguments(got_ocr=(1,)) == {"device_map": {"": 0}}
    assert arguments(qwen_vl_2b=(1,)) == {"device_map": {"": 1}}
    assert arguments(qwen_vl_2b=(0, 1)) == {
        "device_map": "auto",
        "max_memory": {0: 1000, 1: 1001},
    }


def test_a_load_turns_the_attention_of_cudnn_off(checkpoint, settings):
    torch.backends.cuda.enable_cudnn_sdp(True)
    qwen_vl.load(ENTRY, settings)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize(("device", "interval"), [("cuda", 0.001), ("cpu", 0.005)])
def test_threads_take_turns_more_often_if_the_model_is_on_a_gpu(
    checkpoint, settings, monkeypatch, device, interval
):
    monkeypatch.setattr(
        "transformers.PreTrainedModel.device", property(lambda model: torch.device(device))
    )
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        qwen_vl.load(ENTRY, settings)
        assert sys.getswitchinterval() == pytest.approx(interval)
    finally:
        sys.setswitchinterval(before)


def test_no_more_threads_are_asked_for_than_openmp_grants(checkpoint):
    script = (
        "import torch\n"
        "from common.catalog import CATALOG\n"
        "from runners.families.qwen_vl import load\n"
        "from settings import Settings\n"
        "torch.set_num_threads(2)\n"
        "load(CATALOG['qwen_vl_2b'], Settings())\n"
        "print(torch.get_num_threads())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "CHATVLM_WEIGHTS": str(checkpoint.parent), "OMP_THREAD_LIMIT": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "1\n", ran.stderr
