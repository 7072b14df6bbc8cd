"""docs/models.md is held to the catalog."""

import pytest

from common.catalog import CATALOG, UNSAID
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


def test_the_table_of_limits_says_what_the_catalog_says() -> None:
    rows = table_rows(sections("docs/models.md")["As their authors run them"])
    entries = {f"`{entry.id}`": entry for entry in CATALOG.values() if entry.repository}
    assert [row[0] for row in rows] == list(entries)
    for model, pixels, tokens, sampling, revision in rows:
        entry = entries[model]
        assert entry.max_pixels is None or pixels == str(entry.max_pixels)
        assert (tokens, revision) == (str(entry.reading_tokens), f"`{entry.revision}`")
        said = (entry.sampling.temperature, entry.sampling.top_p)
        if entry.sampling == UNSAID:
            assert sampling.startswith("the checkpoint's: ")
        else:
            numbers = [value for value in said if value is not None]
            assert [float(part) for part in sampling.split(",")] == numbers
