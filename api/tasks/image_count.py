"""The limit on the images of one question or conversation, which each model has of its own."""

from api.wording import counted
from common.catalog import Entry
from common.failures import ErrorCode, Refusal


def check_image_count(entry: Entry, count: int) -> None:
    """Raises `Refusal` (BAD_PARAMETER) if the model does not take that many images at once."""
    if count > entry.max_images:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"Model '{entry.id}' takes at most {counted(entry.max_images, 'image')} at once, "
            f"not {count}.",
        )
