from dataclasses import replace

import pytest

from common.catalog import CATALOG
from runners.checkpoints import quantisation
from runners.checkpoints.quantisation import (
    PACKAGES,
    method_of,
    quantisation_of,
    stays_quantised,
    why_not_loadable,
)
from settings import Settings

ENTRY = CATALOG["qwen3_vl_8b"]
H100, A100 = (9, 0), (8, 0)


@pytest.fixture
def installed(monkeypatch):
    """The names of the modules that are installed, which a test may change."""
    names: set[str] = set()
    monkeypatch.setattr(quantisation, "find_spec", lambda name: name in names or None)
    return names


def config(method: str, **fields):
    return {"model_type": "qwen3_vl", "quantization_config": {"quant_method": method} | fields}


def why(config, capability=None, **settings):
    return why_not_loadable(ENTRY, config, Settings(**settings), capability)


@pytest.mark.parametrize(
    ("method", "command"),
    [
        ("awq", "the package 'gptqmodel': pip install gptqmodel."),
        ("gptq", "the packages 'optimum' and 'gptqmodel': pip install optimum gptqmodel."),
        ("bitsandbytes", "the package 'bitsandbytes': pip install bitsandbytes."),
        ("compressed-tensors", "'compressed-tensors': pip install compressed-tensors."),
        ("torchao", "the package 'torchao': pip install torchao."),
    ],
)
def test_a_package_that_is_missing_is_named(installed, method, command):
    reason = why(config(method))
    assert reason is not None
    assert reason.startswith(f"The weights of Qwen3-VL 8B are quantised ({method}), which needs")
    assert reason.endswith(command)
    installed |= {name.replace("-", "_") for name in PACKAGES[method]}
    assert why(config(method)) is None


def test_of_two_packages_only_the_missing_one_is_named(installed):
    installed.add("optimum")
    assert str(why(config("gptq"))).endswith("the package 'gptqmodel': pip install gptqmodel.")


def test_a_method_that_is_not_supported_is_named_with_those_that_are(installed):
    assert why(config("hqq")) == (
        "The weights of Qwen3-VL 8B are quantised with the method 'hqq', which is not supported; "
        "supported are awq, bitsandbytes, compressed-tensors, fp8, gptq, torchao."
    )


def test_fp8_needs_a_package_only_where_it_is_computed_in(installed):
    assert why(config("fp8")) is None
    assert why(config("fp8"), A100) is None
    assert why(config("fp8", dequantize=True), H100) is None
    assert str(why(config("fp8"), H100)).endswith("pip install kernels.")
    installed.add("kernels")
    assert why(config("fp8"), H100) is None


def test_weights_that_are_not_quantised_need_a_package_only_by_the_setting(installed):
    assert why({}) is None
    assert why({}, quantize="int4") == (
        "CHATVLM_QUANTIZE=int4 needs the package 'bitsandbytes': pip install bitsandbytes."
    )
    installed.add("bitsandbytes")
    assert why({}, quantize="int8") is None


def test_the_setting_says_nothing_of_weights_that_are_quantised_already(installed):
    installed.add("torchao")
    assert why(config("torchao"), quantize="int4") is None


@pytest.mark.parametrize(
    ("fields", "method"),
    [
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"bits": 4}, "None"),
    ],
)
def test_the_method_is_read_from_old_and_new_configs(fields, method):
    assert method_of(fields) == method


def test_the_config_may_be_that_of_the_text_model():
    inner = {"quant_method": "awq"}
    assert quantisation_of({"text_config": {"quantization_config": inner}}) == inner
    assert quantisation_of({"text_config": {}, "quantization_config": None}) is None


def test_what_the_library_decodes_does_not_stay_quantised():
    assert stays_quantised(config("awq"), None)
    assert not stays_quantised(config("compressed-tensors"), H100)
    assert not stays_quantised(config("fp8"), A100)
    assert stays_quantised(config("fp8"), H100)
    assert not stays_quantised({}, H100)


def test_an_entry_is_named_by_its_name(installed):
    other = replace(ENTRY, name="Mine")
    assert str(why_not_loadable(other, config("awq"), Settings(), None)).startswith(
        "The weights of Mine are quantised"
    )
