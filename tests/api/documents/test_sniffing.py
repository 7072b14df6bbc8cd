import pytest
from PIL import Image

from api.documents.sniffing import document_kind
from tests.support.documents import pdf, tiff
from tests.support.fakes.runner import picture
from tests.support.pages import ENGLISH

PAGE = Image.new("L", (30, 30))
TWO_PAGES = tiff(PAGE, PAGE)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (pdf(ENGLISH), "PDF"),
        (bytes(1000) + b"%PDF-1.7", "PDF"),
        (bytes(2000) + b"%PDF-1.7", None),
        (TWO_PAGES, "TIFF"),
        (tiff(PAGE), None),
        (picture(), None),
        (b"II*\0" + bytes(99), None),
        (b"", None),
    ],
)
def test_a_document_is_known_by_its_bytes(data, kind):
    assert document_kind(data) == kind
