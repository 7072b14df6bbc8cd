import pytest

from common.failures import ErrorCode, Refusal
from common.messages import Line
from runners.reader.extraction.extract import Extracted, extract

ROWS = (
    "ACME Ltd",
    "Invoice No 2024/17",
    "Date:\t12.03.2024",
    "Total\t1 234,50 €",
    "Paid: yes",
    "Customer",
    "Ivan Petrov",
)
LINES = [Line(text=row, box=(0, n, 9, n + 1), confidence=1) for n, row in enumerate(ROWS)]
NULLABLE = {"anyOf": [{"type": "number"}, {"type": "null"}]}


def found(required: list[str] | None = None, **properties: dict) -> Extracted:
    schema = {"type": "object", "properties": properties, "required": required or [*properties]}
    return extract(schema, LINES)


def test_values_have_the_types_of_the_schema():
    extracted = found(
        total={"type": "number"},
        invoice_number={"type": "string"},
        date={"type": "string", "format": "date"},
        paid={"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        customer={"type": ["string", "null"]},
    )
    assert extracted.data == {
        "total": 1234.5,
        "invoice_number": "2024/17",
        "date": "2024-03-12",
        "paid": True,
        "customer": "Ivan Petrov",
    }
    assert list(extracted.data) == ["total", "invoice_number", "date", "paid", "customer"]
    assert [line.text for line in extracted.lines] == [*ROWS[1:6]]
    assert extracted.warning is None


def test_what_is_not_there_is_null_and_said():
    extracted = found(total={"type": "number"}, discount=NULLABLE)
    assert extracted.data == {"total": 1234.5, "discount": None}
    assert extracted.warning is not None
    assert extracted.warning.startswith("Not found: 'discount'.")
    assert "and no more" in extracted.warning


def test_what_is_not_there_and_not_required_is_left_out():
    assert found(["total"], total={"type": "number"}, tax={"type": "number"}).data == {
        "total": 1234.5
    }


def test_a_value_that_the_schema_forbids_is_not_taken():
    assert found(total={"type": ["number", "null"], "maximum": 100}).data == {"total": None}
    code = {"type": ["string", "null"], "pattern": "^[A-Z]+$"}
    assert found(invoice_number=code).data == {"invoice_number": None}


def test_lists_and_objects_are_not_found():
    extracted = found(items={"type": "array"}, customer={"type": "object"})
    assert extracted.data == {"items": None, "customer": None}


def test_a_title_is_a_label_too_and_references_are_followed():
    schema = {
        "$ref": "#/$defs/B",
        "$defs": {
            "B": {
                "type": "object",
                "properties": {"t": {"title": "Total", "$ref": "#/$defs/N"}},
            },
            "N": {"type": "number"},
        },
    }
    assert extract(schema, LINES).data == {"t": 1234.5}


@pytest.mark.parametrize("schema", [{}, {"type": "array"}, {"type": "object", "properties": {}}])
def test_a_schema_without_fields_is_refused(schema):
    with pytest.raises(Refusal, match="labels on the page") as raised:
        extract(schema, LINES)
    assert raised.value.code is ErrorCode.BAD_PARAMETER
