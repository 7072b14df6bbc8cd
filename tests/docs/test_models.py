"""docs/models.md is held to the catalog."""

import pytest

from common.catalog import CATALOG
from tests.support.markdown import read, sections, table_rows

FIRST_TABLE = table_rows(read("docs/models.md").partition("\n## ")[0])


def test_every_model_is_listed_in_the_order_of_the_catalog() -> None:
    assert [cells[0] for cells in FIRST_TABLE] == [f"`{model}`" for model in CATALOG]


@pytest.mark.parametrize("cells", FIRST_TABLE, ids=lambda cells: cells[0])
def test_a_row_says_what_the_catalog_says(cells: list[str]) -> None:
    entry = CATALOG[cells[0].strip("`")]
    assert cells[1:3] == [entry.name, entry.params]
    if entry.repository is not None:
        assert cells[3:5] == [str(entry.weights_gib), f"`{entry.repository}`"]


def test_every_model_has_its_options_and_number_of_images() -> None:
    rows = table_rows(sections("docs/models.md")["What each model is for"])
    described = {model.strip("` "): row[2] for row in rows for model in row[0].split(",")}
    assert described.keys() == CATALOG.keys()
    for model, text in described.items():
        entry = CATALOG[model]
        assert all(option in text for option in entry.options)
        assert ("one image" if entry.max_images == 1 else f"{entry.max_images} images") in text
