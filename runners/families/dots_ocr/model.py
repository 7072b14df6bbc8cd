"""The dots.ocr model for the transformers library: configuration, vision tower, language model.

The library has no class for it, and the code in the checkpoint's own repository is written for
another version of the library. Attribute names are the keys of the published checkpoint
(rednote-hilab/dots.ocr), so that its files load as they are.

A page of P patches (a grid of `height` x `width`, 14 x 14 pixels each) becomes P / 4 visual
tokens: the tower attends over the patches, and its merger joins each 2 x 2 of them. Patches come
block by block, the order in which the Qwen2-VL image processor emits them.
"""

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    PatchMerger,
    apply_rotary_pos_emb_vision,
)
from transformers.vision_utils import get_vision_position_ids

ROTARY_BASE = 10_000.0


class DotsVisionConfig(PreTrainedConfig):
    """Configuration of the vision tower. The defaults are those of the published checkpoint.

    It is without bias in its blocks and with a norm after them: a checkpoint of another kind
    (`use_bias` true, `post_norm` false) has other keys, and loading it fails on those.
    """

    model_type = "dots_vit"
    base_config_key = "vision_config"

    embed_dim: int = 1536
    hidden_size: int = 1536
    """Hidden size of the language model, to which the merger projects."""
    intermediate_size: int = 4224
    num_hidden_layers: int = 42
    num_attention_heads: int = 12
    num_channels: int = 3
    patch_size: int = 14
    spatial_merge_size: int = 2
    temporal_patch_size: int = 1
    rms_norm_eps: float = 1e-5
    initializer_range: float = 0.02


class DotsOCRConfig(Qwen2Config):
    """Configuration of the language model, a Qwen2, with that of the vision tower in it."""

    model_type = "dots_ocr"
    sub_configs_defaults = {"vision_config": DotsVisionConfig}  # noqa: RUF012

    vision_config: Any = None
    """A `DotsVisionConfig`, or a dict of its fields."""
    image_token_id: int = 151665


class DotsPatchEmbed(nn.Module):
    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.patch_shape = (config.num_channels, config.patch_size, config.patch_size)
        self.proj = nn.Conv2d(
            config.num_channels,
            config.embed_dim,
            kernel_size=config.patch_size,
            stride=config.patch_size,
        )
        self.norm = Qwen2RMSNorm(config.embed_dim, config.rms_norm_eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[patches, channels * size * size] to [patches, embed_dim]."""
        patches = pixel_values.to(self.proj.weight.dtype).view(-1, *self.patch_shape)
        return self.norm(self.proj(patches).flatten(1))


class DotsVisionAttention(nn.Module):
    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=False)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim, bias=False)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor, lengths: list[int]) -> Tensor:
        """Full attention within each image, none between images.

        hidden: [patches, embed_dim]. cos, sin: [patches, head size]. lengths: patches per image.
        """
        query, key, value = self.qkv(hidden).view(len(hidden), 3, self.num_heads, -1).unbind(1)
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        # [1, heads, patches, head size], which the fast kernels want
        per_image = [
            states.transpose(0, 1)[None].split(lengths, 2) for states in (query, key, value)
        ]
        scale = query.shape[-1] ** -0.5
        attended = [
            F.scaled_dot_product_attention(q, k, v, scale=scale)
            for q, k, v in zip(*per_image, strict=True)
        ]
        return self.proj(torch.cat(attended, 2)[0].transpose(0, 1).flatten(1))


class DotsSwiGLU(nn.Module):
    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.intermediate_size, bias=False)
        self.fc2 = nn.Linear(config.intermediate_size, config.embed_dim, bias=False)
        self.fc3 = nn.Linear(config.embed_dim, config.intermediate_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1(hidden)) * self.fc3(hidden))


class DotsVisionBlock(nn.Module):
    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.norm1 = Qwen2RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.attn = DotsVisionAttention(config)
        self.norm2 = Qwen2RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.mlp = DotsSwiGLU(config)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor, lengths: list[int]) -> Tensor:
        hidden = hidden + self.attn(self.norm1(hidden), cos, sin, lengths)
        return hidden + self.mlp(self.norm2(hidden))


class DotsVisionTransformer(nn.Module):
    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Sequential(OrderedDict(patchifier=DotsPatchEmbed(config)))
        self.blocks = nn.ModuleList(
            DotsVisionBlock(config) for _ in range(config.num_hidden_layers)
        )
        self.post_trunk_norm = Qwen2RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.merger = PatchMerger(config.hidden_size, config.embed_dim, config.spatial_merge_size)

    def rotary(self, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Two-dimensional rotary positions: cosines and sines, [patches, head size], float32.

        A quarter of the head size in frequencies turns by the row index, the next quarter by the
        column index, and both repeat (Su et al., "RoFormer", 2021, for one dimension).
        """
        head_size = self.config.embed_dim // self.config.num_attention_heads
        positions = get_vision_position_ids(grids, self.config.spatial_merge_size)
        exponents = torch.arange(0, head_size, 4, device=grids.device) / head_size
        frequencies = ROTARY_BASE**-exponents
        angles = (positions[..., None] * frequencies).flatten(1).repeat(1, 2)
        return angles.cos(), angles.sin()

    def forward(self, pixel_values: Tensor, grids: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Returns the last states of the patches, the visual tokens, and the patches of each image.

        pixel_values: [patches, channels * size * size], of all images. grids: [images, 3], int64:
        frames (1), rows and columns of patches; on the CPU, where reading them waits for no device.
        Visual tokens: [patches / merge², hidden_size].
        """
        lengths = grids.prod(1).tolist()
        cos, sin = (part.to(pixel_values.device, non_blocking=True) for part in self.rotary(grids))
        hidden = self.patch_embed(pixel_values)
        for block in self.blocks:
            hidden = block(hidden, cos, sin, lengths)
        hidden = self.post_trunk_norm(hidden)
        return hidden, self.merger(hidden), lengths


class DotsOCRForCausalLM(Qwen2ForCausalLM):
    config_class = DotsOCRConfig
    _no_split_modules = ["Qwen2DecoderLayer", "DotsVisionBlock"]  # noqa: RUF012
    _can_compile_fullgraph = False

    def __init__(self, config: DotsOCRConfig) -> None:
        super().__init__(config)
        self.vision_tower = DotsVisionTransformer(config.vision_config)
        self.post_init()

    def get_image_features(
        self, pixel_values: Tensor, image_grid_thw: Tensor, **_: object
    ) -> BaseModelOutputWithPooling:
        """Its `pooler_output` has the visual tokens of each image, [tokens, hidden size]."""
        hidden, tokens, lengths = self.vision_tower(pixel_values, image_grid_thw)
        merged = self.config.vision_config.spatial_merge_size**2
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden,
            pooler_output=tokens.split([length // merged for length in lengths]),
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: object,
    ) -> CausalLMOutputWithPast:
        """As Qwen2, with images: as pixel values, or as the result of `get_image_features`.

        The features replace the embeddings of `image_token_id`, in order; `ValueError` where
        their numbers differ.
        """
        features = (mm_encoder_outputs or {}).get("image")
        if features is None and pixel_values is not None:
            assert image_grid_thw is not None, "pixel values come with their grids"
            features = self.get_image_features(pixel_values, image_grid_thw)
        if features is not None:
            assert input_ids is not None, "image tokens say where the images go"
            inputs_embeds = self._place(torch.cat(features.pooler_output), input_ids)
            input_ids = None
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **kwargs)

    def _place(self, features: Tensor, input_ids: Tensor) -> Tensor:
        places = input_ids == self.config.image_token_id
        count = int(places.sum())
        if count != len(features):
            raise ValueError(
                f"The prompt has {count} image tokens, the pictures have {len(features)}."
            )
        embeddings = self.get_input_embeddings()(input_ids)
        return embeddings.masked_scatter(places[..., None], features.to(embeddings))


def register() -> None:
    """Register `dots_ocr` with the Auto classes in this process. May be called again."""
    AutoConfig.register(DotsOCRConfig.model_type, DotsOCRConfig, exist_ok=True)
    AutoModelForCausalLM.register(DotsOCRConfig, DotsOCRForCausalLM, exist_ok=True)
