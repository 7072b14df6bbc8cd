"""Turns of a conversation as a model gets them: its texts, and its files as images."""

from api.documents.pixel_budget import PixelBudget
from api.gateway import Gateway
from api.intake import base64_files
from api.intake.wrong_parameters import BadParameter
from api.schemas.openai import CompletionRequest, ImagePart, TextPart
from api.wording import counted
from common import messages
from common.catalog import Entry
from common.failures import ErrorCode, Refusal
from common.messages import Turn


def check_image_count(entry: Entry, count: int) -> None:
    """Raises `Refusal` (BAD_PARAMETER) where the model does not take that many images at once."""
    if count > entry.images:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"Model '{entry.id}' takes at most {counted(entry.images, 'image')} at once, "
            f"not {count}.",
        )


async def completion_turns(
    asked: CompletionRequest, entry: Entry, gateway: Gateway
) -> tuple[Turn, ...]:
    """The turns of a chat completion: each document in it becomes an image per page.

    Raises `Refusal`: BAD_PARAMETER, BAD_IMAGE or TOO_LARGE.
    """
    turns: list[Turn] = []
    max_files = gateway.settings.max_files
    files = images = 0
    budget = PixelBudget(gateway.settings)
    for number, message in enumerate(asked.messages):
        param = f"messages.{number}.content"
        parts: list[str | messages.Image] = []
        for part in message.content:
            if isinstance(part, TextPart):
                parts.append(part.text)
                continue
            files += 1
            if files > max_files:
                raise BadParameter(
                    param, f"A request takes at most {counted(max_files, 'file')}: send fewer."
                )
            if message.role != "user":
                raise BadParameter(param, "Only the user's messages may hold images and files.")
            url = part.image_url.url if isinstance(part, ImagePart) else part.file.file_data
            pages = await _images(url, param, entry, gateway, images, budget)
            images += len(pages)
            parts += pages
        role = "system" if message.role == "developer" else message.role
        turns.append(Turn(role=role, parts=tuple(parts)))
    if not entry.converses and (images != 1 or len(turns) > 1):
        raise BadParameter(
            "messages", f"Model '{entry.id}' takes one message with one image, no conversation."
        )
    return tuple(turns)


async def _images(
    url: str, param: str, entry: Entry, gateway: Gateway, images_before: int, budget: PixelBudget
) -> list[messages.Image]:
    """The image, or all pages of the document, at `url`.

    param: where in the request it stands. images_before: of the conversation so far.
    """
    if base64_files.is_data_url(url):
        data = await base64_files.decode(url, param, gateway.settings)
    else:
        data = await gateway.fetcher.fetch(url)
    max_pages = gateway.settings.max_pages
    async with gateway.documents.open(data) as pages:
        if pages.count > max_pages:
            raise BadParameter(
                param,
                f"A document may have at most {counted(max_pages, 'page')}, not {pages.count}.",
            )
        check_image_count(entry, images_before + pages.count)
        images = await budget.images(pages, range(1, pages.count + 1))
        return [messages.Image(data=image) for image in images]
