"""What an upstream has to be told of each family of models."""

from collections.abc import Callable
from dataclasses import dataclass

from common.messages import Request
from runners.family_words import dots_ocr, qwen_vl


@dataclass(frozen=True)
class UpstreamFamily:
    """How the models of a family are asked."""

    instruction: Callable[[Request], str]
    """The words after a page that is to be read."""
    image_words: str | None = None
    """What stands for an image in the text of a turn, if the text says where the images are;
    otherwise they are parts of the turn, between its texts."""
    max_pixels: int | None = None
    """Most pixels of an image that the family takes, whatever the settings say."""
    has_layouts: bool = False
    """Whether it answers with dots.ocr's layout if it is asked for one."""


FAMILIES = {
    "qwen_vl": UpstreamFamily(lambda request: qwen_vl.instruction(request.language)),
    # As its authors' own client asks a server.
    "dots_ocr": UpstreamFamily(
        lambda request: dots_ocr.instruction(request.options.mode),
        image_words=dots_ocr.IMAGE,
        max_pixels=dots_ocr.MAX_PIXELS,
        has_layouts=True,
    ),
}
"""By the family of a catalog entry."""
