import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from common.catalog import CATALOG, SamplingParameters
from common.failures import ErrorCode, Refusal
from common.messages import Options
from runners.decoder.operations import CompiledOperations
from runners.families import qwen_vl
from runners.vlm.interface import Task
from settings import Settings
from tests.support.models.batching import answers
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.compiler import needs_compiler
from tests.support.models.entries import listed
from tests.support.models.greedy import first_logits, greedy, note_prefills
from tests.support.models.prompts import MAX_TOKENS, chat, ocr, page, talk

MAX_PIXELS = 100_000
SIZES = ((200, 300), (400, 100), (64, 64), (1400, 1000))
PROMPTS = ("What is this?", "", "Прочти 漢字 🙂\n\nline  two ")
NEW_TOKENS = 10
PICTURES = page(200, 300), page(400, 100, seed=1)
CONVERSATIONS = {
    "several images": [("user", *PICTURES, "What differs?")],
    "words before and between": [("user", "\nThis:", PICTURES[0], " and\n", PICTURES[1], "")],
    "an image in each of two turns": [
        ("user", PICTURES[0], "What is this?"),
        ("assistant", "A fox,\n"),
        ("user", "And this?", PICTURES[1]),
    ],
    "a system's word and an old image": [
        ("system", " Be brief. "),
        ("user", PICTURES[1], "What is this?"),
        ("assistant", "\n\nA dog."),
        ("user", "Прочти 漢字 🙂"),
    ],
    "no image": [("user", "The quick "), ("assistant", "brown fox"), ("user", "jumps")],
}


@pytest.fixture(scope="module", params=["qwen_vl_2b", "qwen2_5_vl_3b", "qwen3_vl_2b"])
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / request.param
    with listed(request.param):
        yield make_checkpoint(request.param, folder)


@pytest.fixture(scope="module")
def load(checkpoint):
    def load(**settings):
        settings = {"dtype": "float32", "max_pixels": MAX_PIXELS} | settings
        return qwen_vl.load(
            CATALOG[checkpoint.name], Settings(weights=checkpoint.parent, **settings)
        )

    return load


@pytest.fixture(scope="module")
def vlm(load):
    return load()


@pytest.fixture(scope="module")
def reference(checkpoint):
    """What the library itself makes of a conversation: its inputs and its tokens."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(checkpoint)
    size = {
        "shortest_edge": processor.image_processor.size["shortest_edge"],
        "longest_edge": MAX_PIXELS,
    }

    def part(part):
        kind = "text" if isinstance(part, str) else "image"
        return {"type": kind, kind: part}

    def reference(*turns):
        inputs = processor.apply_chat_template(
            [[{"role": role, "content": [*map(part, parts)]} for role, *parts in turns]],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"size": size},
        )
        tokens = model.generate(
            **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, repetition_penalty=1.0
        )
        return inputs, tokens[0, inputs["input_ids"].shape[1] :].tolist()

    return reference


@needs_compiler
def test_one_of_the_checkpoints_has_sizes_that_the_kernels_for_cpus_fit(vlm, checkpoint):
    """So that the tests of this file are tests of the kernels, and of what is used instead."""
    fits = checkpoint.name == "qwen3_vl_2b"
    for layer in vlm.decoder.layers:
        assert isinstance(layer.operations, CompiledOperations) == fits


@pytest.mark.parametrize("size", SIZES)
def test_tokens_equal_those_that_the_library_generates(vlm, reference, size):
    for prompt in PROMPTS:
        inputs, tokens = reference(("user", page(*size), prompt))
        encoded = vlm.encode(chat(page(*size), prompt))
        assert torch.equal(encoded.tokens[None], inputs["input_ids"])
        for name in ("pixel_values", "image_grid_thw"):
            assert torch.equal(encoded.pixels[name], inputs[name])
        assert greedy(vlm, encoded, NEW_TOKENS) == tokens


@pytest.mark.parametrize("turns", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation_is_that_of_the_library_and_gets_its_tokens(vlm, reference, turns):
    inputs, tokens = reference(*turns)
    encoded = vlm.encode(talk(*turns))
    assert torch.equal(encoded.tokens[None], inputs["input_ids"])
    assert set(encoded.pixels) == {"pixel_values", "image_grid_thw"} & set(inputs)
    for name, tensor in encoded.pixels.items():
        assert torch.equal(tensor, inputs[name])
    for _ in range(2):  # features missed, then reused
        assert greedy(vlm, encoded, NEW_TOKENS) == tokens


WRITTEN = {
    "one image": ([("user", PICTURES[0], "What?")], "{S}<|im_start|>user\n{}What?<|im_end|>\n"),
    "two images": (
        [("user", PICTURES[0], "and", PICTURES[1], "Which?")],
        "{S}<|im_start|>user\n{}and{}Which?<|im_end|>\n",
    ),
    "several turns": (
        [("user", PICTURES[0], "What?"), ("assistant", "A fox."), ("user", PICTURES[1], "This?")],
        "{S}<|im_start|>user\n{}What?<|im_end|>\n<|im_start|>assistant\nA fox.<|im_end|>\n"
        "<|im_start|>user\n{}This?<|im_end|>\n",
    ),
    "every role": (
        [("system", "Be brief."), ("user", PICTURES[0], "What?"), ("assistant", "")],
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{}What?<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n",
    ),
    "no image": ([("user", "What?")], "{S}<|im_start|>user\nWhat?<|im_end|>\n"),
}
"""Turns, and the prompt that is made of them, with a place for each image and for the system turn
that Qwen2-VL adds."""


@pytest.mark.parametrize(("turns", "prompt"), WRITTEN.values(), ids=WRITTEN)
def test_a_conversation_is_written_as_the_authors_write_it(vlm, checkpoint, turns, prompt):
    assert tokens_of(vlm, turns) == written(vlm, checkpoint, turns, prompt)


SYSTEMS = {
    "two at the start": [
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", PICTURES[0], "What?"),
    ],
    "one in the middle": [
        ("system", "Be brief."),
        ("user", PICTURES[0], "What?"),
        ("system", "Be kind."),
    ],
    "none at the start": [
        ("user", PICTURES[0], "What?"),
        ("system", "Be brief."),
        ("system", "Be kind."),
    ],
}


@pytest.mark.parametrize("turns", SYSTEMS.values(), ids=SYSTEMS)
def test_system_turns_are_joined_where_the_template_writes_only_the_first(vlm, checkpoint, turns):
    if checkpoint.name == "qwen3_vl_2b":
        expected = (
            "<|im_start|>system\nBe brief.\n\nBe kind.<|im_end|>\n"
            "<|im_start|>user\n{}What?<|im_end|>\n"
        )
    else:
        expected = "".join(
            f"<|im_start|>{role}\n{'{}' * (len(parts) > 1)}{parts[-1]}<|im_end|>\n"
            for role, *parts in turns
        )
        expected = expected if turns[0][0] == "system" else "{S}" + expected
    assert tokens_of(vlm, turns) == written(vlm, checkpoint, turns, expected)


def tokens_of(vlm, turns):
    return vlm.encode(talk(*turns)).tokens.tolist()


def written(vlm, checkpoint, turns, prompt):
    """The tokens of a prompt, which goes on with the model's own turn."""
    added = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    grids = vlm.encode(talk(*turns)).pixels.get("image_grid_thw", [])
    images = [
        f"<|vision_start|>{'<|image_pad|>' * (int(grid.prod()) // 4)}<|vision_end|>"
        for grid in grids
    ]
    whole = prompt.format(*images, S="" if checkpoint.name == "qwen3_vl_2b" else added)
    return vlm.tokenizer.encode(f"{whole}<|im_start|>assistant\n")


def test_the_next_turn_reuses_the_conversation_up_to_its_last_image(load, reference):
    vlm = load()
    computed = note_prefills(vlm)
    said = CONVERSATIONS["several images"]
    conversations = [said, [*said, ("assistant", "Two."), ("user", "Sure?")]]
    prompts = [vlm.encode(talk(*turns)) for turns in conversations]
    made = answers(vlm, prompts, NEW_TOKENS, together=False)
    for turns, tokens in zip(conversations, made, strict=True):
        expected = reference(*turns)[1]
        assert tokens == [token for token in expected if token not in vlm.stop_tokens]
    first, second = prompts
    assert computed == [(0, first.length), (first.prefix_length, second.length)]


def test_the_same_images_in_another_order_or_after_other_words_are_not_taken_for_these(vlm):
    first, second = PICTURES
    asked = [
        [("user", first, second, "Which?")],
        [("user", second, first, "Which?")],
        [("user", first, "or", second, "Which?")],
        [("system", "Be brief."), ("user", first, second, "Which?")],
    ]
    logits = [first_logits(vlm, vlm.encode(talk(*turns))) for turns in asked]
    assert not any(torch.equal(logits[0], others) for others in logits[1:])


def test_rows_of_different_lengths_decoded_together_equal_each_alone(vlm):
    rows = [vlm.encode(chat(page(*size), prompt)) for prompt in PROMPTS for size in SIZES[:2]]
    alone = [greedy(vlm, row, NEW_TOKENS) for row in rows]
    for together, tokens in zip(answers(vlm, rows, NEW_TOKENS), alone, strict=True):
        assert together == [token for token in tokens if token not in vlm.stop_tokens]


@pytest.mark.parametrize("together", [False, True])
def test_a_second_question_on_an_image_costs_no_prefix_and_changes_no_token(
    load, reference, together
):
    vlm = load()
    computed = note_prefills(vlm)
    prompts = [vlm.encode(chat(page(200, 300), prompt)) for prompt in PROMPTS]
    made = answers(vlm, prompts, NEW_TOKENS, together)
    for prompt, tokens in zip(PROMPTS, made, strict=True):
        _, expected = reference(("user", page(200, 300), prompt))
        assert tokens == [token for token in expected if token not in vlm.stop_tokens]
    first, *others = prompts
    assert computed == [
        (0, first.length),  # in one forward, although it is not kept yet
        *((first.prefix_length, other.length) for other in others),
    ]


def test_the_vision_tower_does_not_wait_for_the_device(load, monkeypatch):
    packing = "runners.transformers_models.transformers_vlm.pack_linears"
    monkeypatch.setattr(packing, lambda model: None)
    vlm = load()
    encoded = vlm.encode(talk(("user", *PICTURES, "What differs?")))
    vlm.device = torch.device("meta")  # has no values: to read one is an error
    vlm.model.model.visual.to(vlm.device)
    assert len(vlm.image_features([encoded.pixels]).tokens) == encoded.visual_tokens


def test_an_image_that_the_model_has_seen_is_not_cut_into_patches_again(load, monkeypatch):
    vlm = load()
    first = vlm.encode(chat(page(200, 300), "What is this?"))
    features = vlm.encode_images([first], None)
    monkeypatch.setattr(vlm.images, "patches", pytest.fail)
    again = vlm.encode(chat(page(200, 300), "And this?"))
    assert vlm.encode_images([again], None) == features
    monkeypatch.undo()
    vlm.forget()
    assert torch.equal(again.pixels["pixel_values"], first.pixels["pixel_values"])


def test_an_image_that_the_model_has_seen_is_not_held_decoded(load):
    vlm = load(reuse_mib=64)
    (whole,) = vlm.encode_images([vlm.encode(ocr(PICTURES[0]))], None)
    request = ocr(PICTURES[0])
    decoded = weakref.ref(request.images[0].pixels)
    encoded = vlm.encode(request)
    assert decoded() is not None
    del request
    assert decoded() is None
    vlm.forget()
    (again,) = vlm.encode_images([encoded], None)
    assert torch.equal(again.tokens, whole.tokens)


def test_where_nothing_is_kept_the_tokens_are_the_same(load, reference):
    forgetting = load(reuse_mib=0)
    for turns in CONVERSATIONS.values():
        encoded = forgetting.encode(talk(*turns))
        _, tokens = reference(*turns)
        assert greedy(forgetting, encoded, NEW_TOKENS) == tokens
    assert forgetting.reuse_stats["features"]["bytes"] == forgetting.prefix_bytes == 0


def test_features_outlive_the_prefix_and_change_no_logit(load):
    vlm = load()
    encoded = vlm.encode(chat(page(200, 300), "What is this?"))
    before = first_logits(vlm, encoded)
    assert torch.equal(first_logits(vlm, encoded), before)
    assert vlm.reuse_stats["features"]["hits"] == 1


def test_images_of_several_prompts_seen_together_are_what_each_is_alone(load):
    vlm = load(reuse_mib=0)
    asked = [("user", *PICTURES, ""), ("user", page(64, 64), ""), ("user", PICTURES[0], "")]
    prompts = [vlm.encode(talk(turn)) for turn in asked]
    for prompt, together in zip(prompts, vlm.encode_images(prompts, None), strict=True):
        alone = vlm.encode_images([prompt], None)[0]
        assert len(together.tokens) == prompt.visual_tokens
        for one, other in zip(
            (together.tokens, *together.added), (alone.tokens, *alone.added), strict=True
        ):
            assert torch.allclose(one, other, atol=1e-5)


def test_another_image_of_the_same_size_is_not_taken_for_the_first(vlm):
    first = vlm.encode(chat(page(200, 300), "What is this?"))
    second = vlm.encode(chat(page(200, 300, seed=1), "What is this?"))
    assert first.image_key != second.image_key
    assert not torch.equal(first_logits(vlm, first), first_logits(vlm, second))


def test_a_conversation_that_is_longer_than_the_model_takes_is_refused(vlm):
    longest = vlm.model.config.get_text_config().max_position_embeddings
    conversation = talk(("user", "fox " * longest))
    with pytest.raises(Refusal, match=f"at most {longest} tokens") as refused:
        vlm.encode(conversation)
    assert refused.value.code is ErrorCode.BAD_PARAMETER


def test_close_forgets_the_images(vlm):
    first_logits(vlm, vlm.encode(chat(page(64, 64), "")))
    vlm.forget()
    assert [kept["bytes"] for kept in vlm.reuse_stats.values()] == [0]


def test_a_prompt_that_names_the_image_token_is_answered(vlm):
    first_logits(vlm, vlm.encode(chat(page(64, 64), "Where is <|image_pad|>?")))


def test_ocr_asks_for_the_text_and_names_the_language(vlm):
    def asked(**fields):
        encoded = vlm.encode(ocr(page(64, 64), **fields))
        return vlm.text(encoded.tokens.tolist())

    assert "Read all the text" in asked()
    assert "Russian" not in asked()
    assert "The text is in Russian." in asked(language="ru")
    assert "Russian" not in asked(language="de")


def test_no_image_has_more_pixels_than_the_limit_of_its_model(load, checkpoint):
    vlm = load(max_pixels_by_model={checkpoint.name: 20_000})
    encoded = vlm.encode(ocr(page(1400, 1000)))
    patch = vlm.images.patch_size
    _, rows, columns = encoded.pixels["image_grid_thw"][0].tolist()
    assert rows * columns * patch**2 <= 20_000
    assert encoded.image_size == (1400, 1000)
    assert encoded.seen_sizes == ((columns * patch, rows * patch),)


def test_images_leave_room_for_texts_and_the_answer(load):
    vlm = load(max_pixels=3_000_000)
    many = vlm.encode(talk(("user", *[page(1500, 1500)] * 20, "Which?")))
    assert vlm.images.token_counts(many.pixels["image_grid_thw"][:1])[0] < 1500
    assert many.length + MAX_TOKENS <= vlm.model.config.get_text_config().max_position_embeddings


def test_a_page_is_read_with_the_words_of_its_request(vlm):
    words = "Only the table, as HTML."
    asked = vlm.encode(ocr(page(64, 64), "ru", Options(prompt=words)))
    assert torch.equal(asked.tokens, vlm.encode(chat(page(64, 64), words)).tokens)


def test_sampling_is_that_of_the_generation_config(vlm, checkpoint):
    expected = {
        "qwen_vl_2b": SamplingParameters(0.01, 0.001, 1, repetition_penalty=1.0),
        "qwen2_5_vl_3b": SamplingParameters(0.000001, repetition_penalty=1.05),
        "qwen3_vl_2b": SamplingParameters(0.7, 0.8, 20, repetition_penalty=1.0),
    }
    assert vlm.sampling == expected[checkpoint.name]


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (10, 1990)])
def test_thin_and_tiny_images_are_read(vlm, size):
    encoded = vlm.encode(ocr(page(*size)))
    assert encoded.image_size == size
    assert encoded.visual_tokens >= 1
    first_logits(vlm, encoded)


def test_an_image_that_no_padding_helps_is_refused(vlm):
    with pytest.raises(Refusal, match="too long and thin") as refused:
        vlm.encode(ocr(page(1, 20_000)))
    assert refused.value.code is ErrorCode.BAD_IMAGE


def test_threads_that_encode_at_once_get_what_each_would_alone(vlm):
    asked = [chat(page(*size), prompt) for prompt in PROMPTS for size in SIZES] * 4
    alone = [vlm.encode(prompt).pixels for prompt in asked]
    with ThreadPoolExecutor(4) as threads:
        together = threads.map(lambda prompt: vlm.encode(prompt).pixels, asked)
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_stop_tokens_come_from_the_checkpoint_and_its_tokenizer(vlm):
    names = vlm.tokenizer.convert_ids_to_tokens(sorted(vlm.stop_tokens))
    assert sorted(names) == ["<|endoftext|>", "<|im_end|>"]


def test_text_leaves_special_tokens_out_and_shows_cut_characters(vlm):
    tokens = vlm.tokenizer.encode("a , b 🙂")
    assert vlm.text([*tokens, *vlm.stop_tokens]) == "a , b 🙂"
    assert vlm.text(tokens[:-1]).endswith("�")
    assert vlm.text([]) == ""


def test_the_answer_is_the_stripped_text_and_the_image_size(vlm):
    encoded = vlm.encode(ocr(page(64, 80)))
    answer = vlm.answer(Task("ocr"), encoded, " two\n lines \n", "stop")
    assert answer.text == "two\n lines"
    assert (answer.image_size, answer.finish_reason) == ((64, 80), "stop")


def test_a_checkpoint_that_says_something_says_just_that(checkpoint, tmp_path):
    make_checkpoint(checkpoint.name, tmp_path / checkpoint.name, says="The quick brown fox")
    vlm = qwen_vl.load(CATALOG[checkpoint.name], Settings(weights=tmp_path, dtype="bfloat16"))
    for size in SIZES[:2]:
        tokens = greedy(vlm, vlm.encode(ocr(page(*size))), NEW_TOKENS)
        assert vlm.text(tokens) == "The quick brown fox"
        assert tokens[-1] in vlm.stop_tokens
