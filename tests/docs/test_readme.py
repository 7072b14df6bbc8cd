"""The README stays an overview."""

from tests.support.markdown import read

MOST_LINES = 200


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= MOST_LINES
