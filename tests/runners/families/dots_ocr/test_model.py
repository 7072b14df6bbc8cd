"""Each block of the model against a second way of computing it, on random weights."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2VLImageProcessor

from runners.families.dots_ocr.model import (
    DotsOCRConfig,
    DotsOCRForCausalLM,
    DotsVisionConfig,
    DotsVisionTransformer,
    register,
)

IMAGE_TOKEN = 3
PUBLISHED = {
    "architectures": ["DotsOCRForCausalLM"],
    "model_type": "dots_ocr",
    "auto_map": {
        "AutoConfig": "configuration_dots.DotsOCRConfig",
        "AutoModelForCausalLM": "modeling_dots_ocr.DotsOCRForCausalLM",
    },
    "attention_bias": True,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 1536,
    "initializer_range": 0.02,
    "intermediate_size": 8960,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
    "image_token_id": 151665,
    "video_token_id": 151656,
    "vision_config": {
        "embed_dim": 1536,
        "hidden_size": 1536,
        "intermediate_size": 4224,
        "num_hidden_layers": 42,
        "num_attention_heads": 12,
        "num_channels": 3,
        "patch_size": 14,
        "post_norm": True,
        "rms_norm_eps": 1e-05,
        "spatial_merge_size": 2,
        "temporal_patch_size": 1,
        "use_bias": False,
        "attn_implementation": "flash_attention_2",
        "init_merger_std": 0.02,
        "initializer_range": 0.02,
        "is_causal": False,
    },
}
"""The published checkpoint's configuration."""

TINY_VISION = {
    "embed_dim": 48,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
}
TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "image_token_id": IMAGE_TOKEN,
    "vision_config": TINY_VISION,
}


def randomize(module: torch.nn.Module) -> None:
    """Weights large enough that every term of every block shows in the result."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


@pytest.fixture
def tower() -> DotsVisionTransformer:
    tower = DotsVisionTransformer(DotsVisionConfig(**TINY_VISION)).eval()
    randomize(tower)
    return tower.requires_grad_(False)


@pytest.fixture
def model() -> DotsOCRForCausalLM:
    model = DotsOCRForCausalLM(DotsOCRConfig(**TINY)).eval()
    randomize(model)
    return model.requires_grad_(False)


def blocks_in_order(rows: int, columns: int) -> list[tuple[int, int]]:
    return [
        (2 * block_row + row, 2 * block_column + column)
        for block_row in range(rows // 2)
        for block_column in range(columns // 2)
        for row in range(2)
        for column in range(2)
    ]


def pixels(patches: int) -> Tensor:
    return torch.randn(patches, 3 * 14 * 14, generator=torch.Generator().manual_seed(1))


def test_rotary_angles_are_those_of_a_plain_float64_loop(tower: DotsVisionTransformer) -> None:
    cos, sin = tower.rotary(torch.tensor([[1, 4, 6], [1, 2, 2]]))

    places = blocks_in_order(4, 6) + blocks_in_order(2, 2)
    head_size = 16
    assert cos.shape == sin.shape == (len(places), head_size)
    for patch, (row, column) in enumerate(places):
        frequencies = [10_000.0 ** (-2 * i / 8) for i in range(4)]
        half = [row * f for f in frequencies] + [column * f for f in frequencies]
        expected = torch.tensor(half + half, dtype=torch.float64)
        torch.testing.assert_close(cos[patch].double(), expected.cos(), atol=1e-6, rtol=0)
        torch.testing.assert_close(sin[patch].double(), expected.sin(), atol=1e-6, rtol=0)


def test_attention_is_an_explicit_softmax_inside_each_image(tower: DotsVisionTransformer) -> None:
    attention = tower.blocks[0].attn
    grids = torch.tensor([[1, 4, 2], [1, 2, 2]])
    cos, sin = tower.rotary(grids)
    hidden = torch.randn(12, 48)
    result = attention(hidden, cos, sin, [8, 4])

    heads, size = 3, 16
    query, key, value = (hidden @ attention.qkv.weight.T).double().split(48, 1)

    def turned(states: Tensor, patch: int, head: int) -> Tensor:
        vector = states[patch, head * size : (head + 1) * size]
        rotated = torch.cat([-vector[size // 2 :], vector[: size // 2]])
        return vector * cos[patch].double() + rotated * sin[patch].double()

    expected = torch.zeros(12, 48, dtype=torch.float64)
    for image in (range(8), range(8, 12)):
        for patch in image:
            for head in range(heads):
                lane = slice(head * size, (head + 1) * size)
                scores = torch.stack(
                    [
                        turned(query, patch, head) @ turned(key, other, head) / math.sqrt(size)
                        for other in image
                    ]
                )
                expected[patch, lane] = scores.softmax(0) @ value[image.start : image.stop, lane]
    expected = expected @ attention.proj.weight.double().T
    torch.testing.assert_close(result.double(), expected, atol=1e-4, rtol=1e-4)


def test_patches_of_the_image_processor_are_embedded_in_the_order_of_the_positions(
    tower: DotsVisionTransformer,
) -> None:
    rows, columns = 4, 6
    picture = np.random.default_rng(0).integers(0, 256, (rows * 14, columns * 14, 3), np.uint8)
    processor = Qwen2VLImageProcessor(temporal_patch_size=1)
    processed = processor(images=Image.fromarray(picture), return_tensors="pt")
    assert processed["image_grid_thw"].tolist() == [[1, rows, columns]]
    embedded = tower.patch_embed(processed["pixel_values"])

    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    normal = (torch.from_numpy(picture) / 255 - mean) / std
    embedding = tower.patch_embed.patchifier
    for place, (row, column) in enumerate(blocks_in_order(rows, columns)):
        square = normal[row * 14 : row * 14 + 14, column * 14 : column * 14 + 14].permute(2, 0, 1)
        vector = (embedding.proj.weight * square).sum((1, 2, 3)) + embedding.proj.bias
        vector = vector * (vector.square().mean() + 1e-5).rsqrt() * embedding.norm.weight
        torch.testing.assert_close(embedded[place], vector, atol=1e-4, rtol=1e-4)


def test_a_block_adds_attention_and_a_gated_mlp_to_its_input(tower: DotsVisionTransformer) -> None:
    block = tower.blocks[1]
    cos, sin = tower.rotary(torch.tensor([[1, 2, 4]]))
    hidden = torch.randn(8, 48)

    def normed(states: Tensor, weight: Tensor) -> Tensor:
        return states / (states.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    attended = hidden + block.attn(normed(hidden, block.norm1.weight), cos, sin, [8])
    states = normed(attended, block.norm2.weight)
    gate = states @ block.mlp.fc1.weight.T
    expanded = gate * torch.sigmoid(gate) * (states @ block.mlp.fc3.weight.T)
    expected = attended + expanded @ block.mlp.fc2.weight.T
    torch.testing.assert_close(block(hidden, cos, sin, [8]), expected, atol=1e-4, rtol=1e-4)


def test_the_merger_joins_four_neighbours_as_a_loop_does(tower: DotsVisionTransformer) -> None:
    merger = tower.merger
    hidden = torch.randn(8, 48)
    merged = merger(hidden)

    assert merged.shape == (2, 32)
    for token in range(2):
        joined = []
        for patch in hidden[4 * token : 4 * token + 4]:
            centred = patch - patch.mean()
            unit = centred / (centred.square().mean() + 1e-6).sqrt()
            joined.append(unit * merger.ln_q.weight + merger.ln_q.bias)
        inner = merger.mlp[0].weight @ torch.cat(joined) + merger.mlp[0].bias
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        expected = merger.mlp[2].weight @ inner + merger.mlp[2].bias
        torch.testing.assert_close(merged[token], expected, atol=1e-4, rtol=1e-4)


def test_the_tower_runs_its_parts_in_the_published_order(tower: DotsVisionTransformer) -> None:
    grids = torch.tensor([[1, 2, 4]])
    hidden = tower.patch_embed(pixels(8))
    cos, sin = tower.rotary(grids)
    for block in tower.blocks:
        hidden = block(hidden, cos, sin, [8])
    rms = (hidden.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = tower.merger(hidden / rms * tower.post_trunk_norm.weight)
    torch.testing.assert_close(tower(pixels(8), grids)[1], expected, atol=1e-4, rtol=1e-4)


def test_images_seen_together_give_what_each_gives_alone(model: DotsOCRForCausalLM) -> None:
    grids = torch.tensor([[1, 2, 4], [1, 4, 4]])
    together = model.get_image_features(pixels(24), grids).pooler_output
    alone = [
        model.get_image_features(part, grid[None]).pooler_output[0]
        for part, grid in zip(pixels(24).split([8, 16]), grids, strict=True)
    ]
    assert [len(tokens) for tokens in together] == [2, 4]
    for seen_together, seen_alone in zip(together, alone, strict=True):
        torch.testing.assert_close(seen_together, seen_alone, atol=1e-4, rtol=1e-4)


def prompt(images: int) -> Tensor:
    return torch.tensor([[7, *[IMAGE_TOKEN] * images, 8, 9]])


def test_features_replace_the_image_tokens_in_order(model: DotsOCRForCausalLM) -> None:
    grids = torch.tensor([[1, 2, 4]])
    embeddings = model.get_input_embeddings()(prompt(2))
    embeddings[0, 1:3] = model.get_image_features(pixels(8), grids).pooler_output[0]
    seen = model(input_ids=prompt(2), pixel_values=pixels(8), image_grid_thw=grids)
    torch.testing.assert_close(seen.logits, model(inputs_embeds=embeddings).logits)


def test_another_number_of_image_tokens_than_of_features_is_an_error(
    model: DotsOCRForCausalLM,
) -> None:
    with pytest.raises(ValueError, match="3 image tokens, the pictures have 2"):
        model(input_ids=prompt(3), pixel_values=pixels(8), image_grid_thw=torch.tensor([[1, 2, 4]]))


def test_generate_sees_the_image_once_and_agrees_with_full_forwards(
    model: DotsOCRForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    see = model.vision_tower.forward
    monkeypatch.setattr(
        model.vision_tower, "forward", lambda *args: calls.append(args) or see(*args)
    )
    image = {"pixel_values": pixels(8), "image_grid_thw": torch.tensor([[1, 2, 4]])}
    generated = model.generate(prompt(2), **image, max_new_tokens=8, do_sample=False)
    assert len(calls) == 1

    tokens = prompt(2)
    for _ in range(8):
        following = model(input_ids=tokens, **image).logits[0, -1].argmax()
        tokens = torch.cat([tokens, following.view(1, 1)], 1)
    assert generated.tolist() == tokens.tolist()


def test_kept_features_answer_as_the_pixels_do(model: DotsOCRForCausalLM) -> None:
    image = {"pixel_values": pixels(8), "image_grid_thw": torch.tensor([[1, 2, 4]])}
    kept = {"mm_encoder_outputs": {"image": model.get_image_features(**image)}}
    of_pixels = model.generate(prompt(2), **image, max_new_tokens=8, do_sample=False)
    of_features = model.generate(prompt(2), **kept, max_new_tokens=8, do_sample=False)
    assert of_features.tolist() == of_pixels.tolist()


def test_the_published_configuration_makes_the_published_sizes(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    register()
    config = AutoConfig.from_pretrained(tmp_path, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)

    assert type(model) is DotsOCRForCausalLM
    assert config.rope_parameters["rope_theta"] == 1_000_000
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    vision = {k: math.prod(v) for k, v in shapes.items() if k.startswith("vision_tower.")}
    assert sum(vision.values()) == 1_262_091_264
    assert sum(map(math.prod, shapes.values())) - sum(vision.values()) == 1_777_088_000
    tower = {
        "patch_embed.patchifier.proj.weight": (1536, 3, 14, 14),
        "patch_embed.patchifier.proj.bias": (1536,),
        "patch_embed.patchifier.norm.weight": (1536,),
        "post_trunk_norm.weight": (1536,),
        "merger.ln_q.weight": (1536,),
        "merger.ln_q.bias": (1536,),
        "merger.mlp.0.weight": (6144, 6144),
        "merger.mlp.0.bias": (6144,),
        "merger.mlp.2.weight": (1536, 6144),
        "merger.mlp.2.bias": (1536,),
    }
    for block in range(42):
        tower |= {
            f"blocks.{block}.norm1.weight": (1536,),
            f"blocks.{block}.attn.qkv.weight": (4608, 1536),
            f"blocks.{block}.attn.proj.weight": (1536, 1536),
            f"blocks.{block}.norm2.weight": (1536,),
            f"blocks.{block}.mlp.fc1.weight": (4224, 1536),
            f"blocks.{block}.mlp.fc2.weight": (1536, 4224),
            f"blocks.{block}.mlp.fc3.weight": (4224, 1536),
        }
    language = {
        "model.embed_tokens.weight": (151936, 1536),
        "model.norm.weight": (1536,),
        "lm_head.weight": (151936, 1536),
    }
    for layer in range(28):
        language |= {
            f"model.layers.{layer}.{key}": shape
            for key, shape in {
                "input_layernorm.weight": (1536,),
                "self_attn.q_proj.weight": (1536, 1536),
                "self_attn.q_proj.bias": (1536,),
                "self_attn.k_proj.weight": (256, 1536),
                "self_attn.k_proj.bias": (256,),
                "self_attn.v_proj.weight": (256, 1536),
                "self_attn.v_proj.bias": (256,),
                "self_attn.o_proj.weight": (1536, 1536),
                "post_attention_layernorm.weight": (1536,),
                "mlp.gate_proj.weight": (8960, 1536),
                "mlp.up_proj.weight": (8960, 1536),
                "mlp.down_proj.weight": (1536, 8960),
            }.items()
        }
    assert shapes == language | {f"vision_tower.{key}": shape for key, shape in tower.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_checkpoint_loads_with_its_keys_and_values(
    model: DotsOCRForCausalLM, tmp_path, dtype: torch.dtype
) -> None:
    model.save_pretrained(tmp_path)
    register()
    loaded, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=dtype, trust_remote_code=False, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert loaded.dtype == dtype
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.to(dtype)), key
    features = loaded.get_image_features(pixels(8), torch.tensor([[1, 2, 4]])).pooler_output[0]
    assert features.dtype == dtype
