"""How the page is served; what it does is tried in a browser, end to end."""

import re

import pytest

from api.routes.playground import files


async def test_the_page_has_its_own_folder(client):
    response = await client.get("/playground")
    assert response.headers["location"] == "playground/"
    page = await client.get("/playground/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_all_that_the_page_names_is_there(client):
    page = (await client.get("/playground/")).text
    for name in re.findall(r'(?:src|href)="([^"#.][^"#]*)"', page):
        assert (await client.get(f"/playground/{name}")).status_code == 200


@pytest.mark.parametrize("name", ["", "scripts/app.js", "style.css", "icon.svg"])
async def test_nothing_but_the_service_may_be_loaded_or_asked(name, client):
    headers = (await client.get(f"/playground/{name}")).headers
    assert headers["content-security-policy"].startswith("default-src 'self'; img-src 'self' data:")
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["none.js", "../playground.py", "%2e%2e/playground.py"])
async def test_no_other_file_is_served(path, client):
    response = await client.get(f"/playground/{path}")
    assert response.status_code == 404
    assert response.json()["detail"].startswith("There is no route")


async def test_an_unchanged_file_is_not_sent_again(client):
    tag = (await client.get("/playground/scripts/app.js")).headers["etag"]
    again = await client.get("/playground/scripts/app.js", headers={"If-None-Match": tag})
    assert again.status_code == 304


def test_both_languages_say_the_same_things():
    strings = (files.directory / "scripts/i18n.js").read_text("utf-8")
    english, russian = (
        re.findall(r"^    (\w+): \"(.*)\",$", part, re.M)
        for part in re.split(r"^  ru: \{$", strings, flags=re.M)
    )
    assert [key for key, _ in english] == [key for key, _ in russian]
    for (_, one), (_, other) in zip(english, russian, strict=True):
        assert set(re.findall(r"{\w+}", one)) == set(re.findall(r"{\w+}", other))
