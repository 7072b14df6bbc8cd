"""The attention of the library's vision towers, in slices where rows in flight wait for it."""

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from runners.transformers_models.between_layers import attend_in_slices

_NAME = "chatvlm_tower"


def attend_tower_in_slices(tower: PreTrainedModel) -> None:
    """Makes a vision tower attend with `attend_in_slices`."""
    AttentionInterface.register(_NAME, _attend)
    tower.set_attn_implementation(_NAME)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """As the library calls it, for one image: [1, heads, patches, head size].

    Returns [1, patches, heads, head size].
    """
    assert attention_mask is None, "every patch of an image sees all of them"
    return attend_in_slices(query, key, value, scaling).transpose(1, 2), None
