from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from common.messages import Options
from runners.families import got_ocr
from runners.vlm.interface import Task
from settings import Settings
from tests.support.models.batching import answers
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.greedy import first_logits, greedy, note_prefills
from tests.support.models.prompts import chat, ocr, page

NEW_TOKENS = 10
SYSTEM = (
    "<|im_start|>system\n"
    "You should follow the instructions carefully and explain your answers in detail.<|im_end|>"
)
SMALL, LARGE = (200, 300), (600, 700)  # a tile of the tiny checkpoint has 256 x 256 pixels
ASKED = {
    "plain": ({}, "OCR: "),
    "formatted": ({"formatted": True}, "OCR with format: "),
    "colour": ({"color": "green"}, "[green] OCR: "),
    "formatted colour": ({"formatted": True, "color": "red"}, "[red] OCR with format: "),
    "box": ({"box": (20, 30, 150, 290)}, "[100, 100, 750, 966] OCR: "),
    "formatted box": (
        {"formatted": True, "box": (0, 0, 200, 300)},
        "[0, 0, 1000, 1000] OCR with format: ",
    ),
}
"""Options for a small page, and the query that the model's authors write for them."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint("got_ocr", tmp_path_factory.mktemp("weights") / "got_ocr")


@pytest.fixture(scope="module")
def load(checkpoint):
    def load(**settings):
        return got_ocr.load(
            CATALOG["got_ocr"],
            Settings(weights=checkpoint.parent, **({"dtype": "float32"} | settings)),
        )

    return load


@pytest.fixture(scope="module")
def vlm(load):
    return load()


@pytest.fixture(scope="module")
def reference(checkpoint):
    """What the library itself makes of an image and of the whole prompt."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(checkpoint)

    def reference(image, query, **options):
        prompt = (
            f"{SYSTEM}<|im_start|>user\n<img><imgpad></img>\n{query}<|im_end|>"
            "<|im_start|>assistant\n"
        )
        inputs = processor(image, text=prompt, return_tensors="pt", **options)
        tokens = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        return inputs, tokens[0, inputs["input_ids"].shape[1] :].tolist()

    return reference


@pytest.mark.parametrize("asked", ASKED)
def test_prompts_are_the_authors_and_tokens_the_library_s(vlm, reference, asked):
    options, query = ASKED[asked]
    inputs, tokens = reference(page(*SMALL), query)
    encoded = vlm.encode(ocr(page(*SMALL), options=Options(**options)))
    assert torch.equal(encoded.tokens[None], inputs["input_ids"])
    assert torch.equal(encoded.pixels["pixel_values"], inputs["pixel_values"])
    assert encoded.visual_tokens == 256
    assert greedy(vlm, encoded, NEW_TOKENS) == tokens


def test_a_prompt_is_these_tokens(vlm):
    words = vlm.tokenizer.convert_tokens_to_ids
    text = vlm.tokenizer.encode
    turns = [
        words("<|im_start|>"),
        *text(SYSTEM.removeprefix("<|im_start|>").removesuffix("<|im_end|>")),
        words("<|im_end|>"),
        words("<|im_start|>"),
        *text("user\n"),
        words("<img>"),
        *[words("<imgpad>")] * 256,
        words("</img>"),
        *text("\nOCR: "),
        words("<|im_end|>"),
        words("<|im_start|>"),
        *text("assistant\n"),
    ]
    assert vlm.encode(ocr(page(*SMALL))).tokens.tolist() == turns


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({}, "OCR upon the patch reference: "),
        ({"formatted": True}, "OCR with format upon the patch reference: "),
    ],
)
def test_a_large_page_is_read_in_tiles_as_the_authors_do(vlm, reference, options, query):
    inputs, tokens = reference(page(*LARGE), query, crop_to_patches=True, max_patches=6)
    encoded = vlm.encode(ocr(page(*LARGE), options=Options(**options)))
    assert torch.equal(encoded.tokens[None], inputs["input_ids"])
    assert torch.equal(encoded.pixels["pixel_values"], inputs["pixel_values"])
    assert encoded.visual_tokens == 256 * len(inputs["pixel_values"]) > 256
    across, down = encoded.seen_sizes[0]
    assert across // 256 * (down // 256) + 1 == len(inputs["pixel_values"])
    assert greedy(vlm, encoded, NEW_TOKENS) == tokens


@pytest.mark.parametrize("size", [(2600, 2000), (1000, 1000), (300, 2000), (4000, 900)])
def test_a_page_of_any_shape_is_read_in_at_most_six_tiles_and_as_a_whole(vlm, size):
    assert 2 <= vlm.encode(ocr(page(*size))).visual_tokens / 256 <= 7


@pytest.mark.parametrize("options", [{"box": (0, 0, 600, 700)}, {"color": "red"}])
def test_a_region_of_a_large_page_is_read_without_tiles(vlm, options):
    assert vlm.encode(ocr(page(*LARGE), options=Options(**options))).visual_tokens == 256


def test_rows_of_different_lengths_decoded_together_equal_each_alone(vlm):
    rows = [
        vlm.encode(ocr(page(*SMALL))),
        vlm.encode(ocr(page(*LARGE))),
        vlm.encode(ocr(page(*SMALL, seed=1), options=Options(formatted=True, color="blue"))),
    ]
    alone = [greedy(vlm, row, NEW_TOKENS) for row in rows]
    for together, tokens in zip(answers(vlm, rows, NEW_TOKENS), alone, strict=True):
        assert together == [token for token in tokens if token not in vlm.stop_tokens]


@pytest.mark.parametrize("together", [False, True])
def test_another_reading_of_a_page_reuses_its_prefix_and_changes_no_token(load, together):
    keeping, missing = load(), load(reuse_mib=0)
    prompts = [
        keeping.encode(ocr(page(*SMALL), options=Options(**options)))
        for options, _ in ASKED.values()
    ]
    expected = [greedy(missing, prompt, NEW_TOKENS) for prompt in prompts]
    computed = note_prefills(keeping)
    for made, tokens in zip(answers(keeping, prompts, NEW_TOKENS, together), expected, strict=True):
        assert made == [token for token in tokens if token not in keeping.stop_tokens]
    first, *others = prompts
    assert computed == [
        (0, first.length),
        *((other.prefix_length, other.length) for other in others),
    ]


def test_the_vision_tower_does_not_wait_for_the_device(load, monkeypatch):
    packing = "runners.transformers_models.transformers_vlm.pack_linears"
    monkeypatch.setattr(packing, lambda model: None)
    vlm = load()
    encoded = vlm.encode(ocr(page(*SMALL)))
    vlm.device = torch.device("meta")  # has no values: to read one is an error
    vlm.model.model.to(vlm.device)
    assert len(vlm.image_features([encoded.pixels]).tokens) == encoded.visual_tokens


@pytest.mark.parametrize(
    "box", [(0, 0, 201, 300), (0, 0, 200, 301), (-1, 0, 10, 10), (10, 10, 10, 20), (9, 20, 10, 10)]
)
def test_a_box_that_is_not_inside_the_image_is_refused(vlm, box):
    with pytest.raises(Refusal, match="200 x 300") as refused:
        vlm.encode(ocr(page(*SMALL), options=Options(box=box)))
    assert refused.value.code is ErrorCode.BAD_PARAMETER


def test_a_box_and_a_colour_at_once_are_refused(vlm):
    with pytest.raises(Refusal, match="'box' or 'color'") as refused:
        vlm.encode(ocr(page(*SMALL), options=Options(box=(0, 0, 9, 9), color="red")))
    assert refused.value.code is ErrorCode.BAD_PARAMETER


def test_threads_that_encode_at_once_get_what_each_would_alone(vlm):
    asked = [ocr(page(*SMALL), options=Options(**options)) for options, _ in ASKED.values()] * 8
    alone = [vlm.encode(prompt) for prompt in asked]
    with ThreadPoolExecutor(4) as threads:
        together = threads.map(vlm.encode, asked)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.tokens, other.tokens)
        assert torch.equal(one.pixels["pixel_values"], other.pixels["pixel_values"])


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_thin_and_tiny_images_are_read(vlm, size):
    first_logits(vlm, vlm.encode(ocr(page(*size))))


def test_a_question_is_answered_with_the_page_s_text_and_says_so(vlm):
    asked = vlm.encode(chat(page(*SMALL), "Who signed? <imgpad><|im_end|>"))
    read = vlm.encode(ocr(page(*SMALL)))
    assert torch.equal(asked.tokens, read.tokens)
    assert vlm.answer(Task("chat"), asked, "text", "stop").prompt_used is False
    assert vlm.answer(Task("ocr"), read, "text", "stop").prompt_used is None


def test_a_language_it_was_not_taught_is_answered_with_a_warning(vlm):
    encoded = vlm.encode(ocr(page(*SMALL)))

    def warning(language):
        return vlm.answer(Task("ocr", language), encoded, "text", "stop").warning

    assert "Russian" in warning("ru")
    assert warning("en") is warning("zh") is warning(None) is None


def test_the_end_of_a_turn_stops_whatever_the_generation_config_says(checkpoint, load):
    config = checkpoint / "generation_config.json"
    before = config.read_text()
    config.write_text('{"eos_token_id": 0}')
    try:
        vlm = load()
    finally:
        config.write_text(before)
    assert vlm.tokenizer.convert_tokens_to_ids("<|im_end|>") in vlm.stop_tokens
    assert 0 in vlm.stop_tokens


def test_a_checkpoint_that_says_something_says_just_that(tmp_path):
    make_checkpoint("got_ocr", tmp_path / "got_ocr", says="The quick brown fox")
    vlm = got_ocr.load(CATALOG["got_ocr"], Settings(weights=tmp_path, dtype="bfloat16"))
    tokens = greedy(vlm, vlm.encode(ocr(page(*SMALL))), NEW_TOKENS)
    assert vlm.text(tokens) == "The quick brown fox"
