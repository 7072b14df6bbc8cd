import pytest
from PIL import Image

from api.documents.sniffing import document_kind
from tests.support.fakes.runner import picture
from tests.support.files.documents import pdf, tiff
from tests.support.pages import ENGLISH, encode

PAGE = Image.new("L", (30, 30))
TWO_PAGES = tiff(PAGE, PAGE)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (pdf(ENGLISH), "PDF"),
        (bytes(1000) + b"%PDF-1.7", "PDF"),
        (b"Received: from host\n" * 200 + b"%PDF-1.7", "PDF"),
        (bytes(100_000) + b"%PDF-1.7", None),
        (encode(PAGE, "JPEG", comment=b"%PDF-1.7"), None),
        (encode(PAGE, "GIF", comment=b"%PDF-1.7"), None),
        (TWO_PAGES, "TIFF"),
        (tiff(PAGE), None),
        (picture(), None),
        (b"II*\0" + bytes(99), None),
        (b"", None),
    ],
)
def test_a_document_is_known_by_its_bytes(data, kind):
    assert document_kind(data) == kind
