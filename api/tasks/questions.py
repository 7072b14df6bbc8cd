"""Turns a question about a file into the request to a model."""

from dataclasses import dataclass

from api.documents.pixel_budget import PixelBudget
from api.documents.selection import select_pages
from api.gateway import Gateway
from api.intake.parameters import ChatParameters
from api.tasks.image_count import check_image_count
from api.tasks.shown_pages import shown_pages
from common.catalog import Entry
from common.messages import Request, single_turn

FIRST_PAGE = ((1, 1),)


@dataclass(frozen=True)
class Question:
    """The request to the model, and what the user should know about it."""

    request: Request
    warning: str | None
    """Says that pages of the document were left out."""


async def prepare_question(
    data: bytes, parameters: ChatParameters, entry: Entry, gateway: Gateway
) -> Question:
    """Opens the file and has the selected pages drawn; each becomes an image of the question.

    Raises `Refusal`: BAD_PARAMETER, BAD_IMAGE or TOO_LARGE.
    """
    warning = None
    async with gateway.documents.open(data) as pages:
        numbers = select_pages(
            parameters.pages or FIRST_PAGE, pages.count, gateway.settings.max_pages
        )
        check_image_count(entry, len(numbers))
        budget = PixelBudget(gateway.settings)
        images = await shown_pages(pages, numbers, budget, entry, parameters.text_layer)
        if parameters.pages is None and pages.count > 1:
            warning = f"Only page 1 of {pages.count} was shown: choose with 'pages'."
    request = Request(
        task="chat",
        turns=single_turn(images, parameters.prompt),
        temperature=parameters.temperature,
        max_tokens=parameters.max_tokens,
        says_source=parameters.text_layer == "auto",
    )
    return Question(request, warning)
