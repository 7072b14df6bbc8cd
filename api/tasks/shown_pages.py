"""Makes the images of a question or conversation from the pages of a file."""

from collections.abc import Sequence

from api.defaults import TextLayerChoice
from api.documents.opening import Pages
from api.documents.pixel_budget import PixelBudget
from common.catalog import Entry
from common.messages import Image


async def shown_pages(
    pages: Pages,
    numbers: Sequence[int],
    budget: PixelBudget,
    entry: Entry,
    text_layer: TextLayerChoice,
) -> list[Image]:
    """Pages `numbers`, from 1, as images, each with its sound text layer if `text_layer` is auto.

    Only the embedded reader gets text layers: a vision-language model looks at the images.

    Raises `Refusal` as `PixelBudget.images` does.
    """
    images = await budget.images(pages, numbers)
    if text_layer == "never" or not entry.is_embedded:
        return [Image(data=image) for image in images]
    share = budget.share(len(numbers))
    return [
        Image(data=image, text=await pages.text_layer(number, share))
        for number, image in zip(numbers, images, strict=True)
    ]
