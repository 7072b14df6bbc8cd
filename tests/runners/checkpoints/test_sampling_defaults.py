import pytest
from transformers import GenerationConfig

from common.catalog import UNSAID, SamplingParameters
from runners.checkpoints.sampling_defaults import NEUTRAL, checkpoint_parameters, parameters_of

QWEN2 = {
    "do_sample": True,
    "repetition_penalty": 1.0,
    "temperature": 0.01,
    "top_p": 0.001,
    "top_k": 1,
}


def test_what_nobody_says_is_neutral():
    chosen = parameters_of("chat", UNSAID, UNSAID, UNSAID)
    assert chosen == NEUTRAL
    assert (chosen.temperature, chosen.top_p) == (0.7, 1)


def test_the_request_comes_first_then_the_checkpoint_then_the_authors():
    asked = SamplingParameters(temperature=0.0)
    checkpoint = SamplingParameters(temperature=0.3, top_p=0.8)
    authors = SamplingParameters(temperature=0.1, top_p=0.9, top_k=20)
    chosen = parameters_of("chat", asked, checkpoint, authors)
    assert (chosen.temperature, chosen.top_p, chosen.top_k) == (0, 0.8, 20)


def test_a_page_is_read_greedily_unless_its_request_says_otherwise():
    checkpoint = SamplingParameters(temperature=0.7, repetition_penalty=1.05)
    authors = SamplingParameters(temperature=0.1, top_p=0.9)
    chosen = parameters_of("ocr", UNSAID, checkpoint, authors)
    assert (chosen.temperature, chosen.top_p, chosen.repetition_penalty) == (0, 1, 1.05)
    warmer = parameters_of("ocr", SamplingParameters(temperature=0.5), checkpoint, authors)
    assert warmer.temperature == 0.5


def test_a_generation_config_says_what_it_has():
    assert checkpoint_parameters(GenerationConfig(**QWEN2)) == SamplingParameters(
        temperature=0.01, top_p=0.001, top_k=1, repetition_penalty=1.0
    )
    assert checkpoint_parameters(GenerationConfig(eos_token_id=3)) == UNSAID


def test_a_generation_config_that_does_not_sample_is_greedy():
    config = GenerationConfig(do_sample=False)
    assert checkpoint_parameters(config) == SamplingParameters(temperature=0.0)


@pytest.mark.parametrize("value", [-1, 3, "warm", float("nan")])
def test_a_value_that_makes_no_sense_is_passed_over_and_logged(value, caplog):
    config = GenerationConfig(top_p=0.8)
    config.temperature = value
    assert checkpoint_parameters(config) == SamplingParameters(top_p=0.8)
    assert "temperature" in caplog.text
