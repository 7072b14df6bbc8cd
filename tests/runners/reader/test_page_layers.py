from common.messages import Image, Line, PageText
from runners.reader.page_layers import page_of_layer
from tests.support.pages import RUSSIAN

LINE = Line(text=RUSSIAN[0], box=(1, 2, 3, 4), confidence=1.0)


def test_a_text_layer_is_a_page_that_was_read() -> None:
    text = PageText(size=(300, 400), blocks=[[LINE]])
    page = page_of_layer(Image(data=b"", text=text))
    assert page is not None
    assert (page.size, page.lines, page.text) == ((300, 400), [LINE], RUSSIAN[0])
    assert page.language == "ru"


def test_an_image_without_one_has_to_be_read() -> None:
    assert page_of_layer(Image(data=b"an image")) is None
