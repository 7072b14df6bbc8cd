"""docs/models.md is held to the catalog."""

import re
from pathlib import Path

import pytest

from common.catalog import CATALOG, UNSAID
from common.catalog_file import ListedModel, read_catalog
from common.units import GIB
from runners.checkpoints.quantisation import PACKAGES
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


def test_the_sizes_of_quantised_weights_follow_from_their_number() -> None:
    rows = [r for r in table_rows(sections("docs/models.md")["Quantised weights"]) if len(r) == 5]
    assert [row[0].strip("`") for row in rows] == [e.id for e in CATALOG.values() if e.repository]
    for model, billions, whole, int8, int4 in rows:
        assert float(whole) == CATALOG[model.strip("`")].weights_gib
        saved = {int8: 2 - 1, int4: 2 - 9 / 16}
        for size, bytes_of_a_number in saved.items():
            expected = float(whole) - float(billions) * 1e9 * bytes_of_a_number / GIB
            assert float(size) == pytest.approx(expected, abs=0.051)


def test_the_catalog_file_of_the_document_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", read("docs/models.md"), re.M | re.S)
    (tmp_path / "models.toml").write_text(text)
    assert [entry.id for entry in read_catalog(tmp_path / "models.toml")] == ["olmocr", "our_qwen"]


def test_the_tables_have_every_field_every_family_and_every_method() -> None:
    first, second = sections("docs/models.md")["Other models"].split("| family | ")
    fields = {name.strip("` ") for row in table_rows(first) for name in row[0].split(",")}
    assert fields == ListedModel.model_fields.keys()
    families = {row[0].strip("`") for row in table_rows("| family | " + second)}
    assert families == {entry.family for entry in CATALOG.values() if entry.family}
    methods = table_rows(sections("docs/models.md")["Quantised weights"])
    assert {row[0].split("`")[1] for row in methods if len(row) == 3} == PACKAGES.keys()
