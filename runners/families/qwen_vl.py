"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

import torch
from torch import Tensor, nn
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.vision_utils import (
    get_vision_cu_seqlens,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

from common.catalog import Entry
from runners.checkpoints.loading import load_checkpoint
from runners.family_words import qwen_vl as words
from runners.transformers_models.chat_template import template_fault
from runners.transformers_models.qwen_style_vlm import QwenStyleVlm
from runners.vlm.interface import Task
from settings import Settings


def load(entry: Entry, settings: Settings) -> "QwenVl":
    """Loads the weights of an entry; blocks. Raises `Refusal` as `load_checkpoint` does."""
    model, processor = load_checkpoint(
        entry,
        settings,
        {
            "qwen2_vl": (Qwen2VLForConditionalGeneration, Qwen2VLProcessor),
            "qwen2_5_vl": (Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor),
            "qwen3_vl": (Qwen3VLForConditionalGeneration, Qwen3VLProcessor),
        },
        fault_of=template_fault,
    )
    max_pixels = settings.max_pixels_of(entry, model.device.type == "cuda")
    return QwenVl(model, processor, max_pixels, settings.reuse_bytes)


class QwenVl(QwenStyleVlm):
    """A Qwen2-VL, Qwen2.5-VL or Qwen3-VL. They differ in the library's classes and in what
    their vision towers take."""

    patch_projection = "model.visual.patch_embed.proj"

    def instruction(self, task: Task) -> str:
        return words.instruction(task.language)

    def positions(self, tokens: Tensor, grids: Tensor | None) -> Tensor:
        """Returns [3, length]: positions in time, height and width, as M-RoPE counts them."""
        image = (tokens == self.model.config.image_token_id).to(torch.int)
        found, _ = self.model.model.get_rope_index(tokens[None], image[None], image_grid_thw=grids)
        return found[:, 0]

    @property
    def tower_blocks(self) -> nn.ModuleList:
        return self.model.model.visual.blocks

    def vision_arguments(self, grids: Tensor) -> dict[str, Tensor]:
        """Returns what the vision tower would otherwise compute from grids on the device.

        Each layer of the tower reads the lengths of the images. They stay on the CPU, so that no
        layer waits for the device.
        """
        tower = self.model.model.visual
        arguments = {
            "image_cu_seqlens": get_vision_cu_seqlens(grids),
            "image_position_ids": self.to_device(
                get_vision_position_ids(grids, tower.spatial_merge_size)
            ),
        }
        if isinstance(self.model, Qwen2_5_VLForConditionalGeneration):
            index, lengths = get_vision_window_index(
                grids, tower.spatial_merge_size, tower.window_size, tower.patch_size
            )
            arguments["image_window_index"] = self.to_device(index)
            arguments["image_cu_window_seqlens"] = lengths
        if isinstance(self.model, Qwen3VLForConditionalGeneration):
            indices, weights = get_vision_interpolation_indices_and_weights(
                grids,
                tower.num_grid_per_side,
                tower.interpolation_mode,
                tower.interpolation_align_corners,
                tower.spatial_merge_size,
            )
            arguments["image_interp_indices"] = self.to_device(indices)
            arguments["image_interp_weights"] = self.to_device(weights)
        return arguments
