import pytest

from api.documents.opening import Documents
from api.documents.pixel_budget import PixelBudget
from common.failures import ErrorCode, Refusal
from common.images import decode
from settings import Settings
from tests.support.fakes.runner import picture
from tests.support.files.documents import pdf
from tests.support.pages import ENGLISH

SETTINGS = Settings(max_image_pixels=1000)


async def test_the_pages_of_a_pdf_share_the_budget():
    async with Documents(SETTINGS).open(pdf(ENGLISH, ENGLISH)) as pages:
        images = await PixelBudget(SETTINGS).images(pages, [1, 2])
    for image in images:
        width, height = decode(image).size
        assert 250 < width * height <= 500


async def test_images_that_exceed_the_budget_together_are_refused():
    budget = PixelBudget(SETTINGS)
    async with Documents(SETTINGS).open(picture(30, 20)) as pages:
        assert len(await budget.images(pages, [1])) == 1
        with pytest.raises(Refusal, match="1200 pixels or more together") as refused:
            await budget.images(pages, [1])
    assert refused.value.code is ErrorCode.TOO_LARGE
