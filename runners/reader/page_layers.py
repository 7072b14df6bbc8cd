"""Takes pages from the text layers that the gateway found in a PDF, instead of reading them."""

from common.messages import Image
from runners.reader.questions.words import language_of
from runners.reader.read_page import ReadPage


def page_of_layer(image: Image) -> ReadPage | None:
    """The page that the image shows, if its text layer came with it."""
    if image.text is None:
        return None
    return ReadPage(image.text.size, image.text.blocks, language_of(image.text.text))
