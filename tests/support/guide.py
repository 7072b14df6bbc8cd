"""The examples of the users' guide, as they stand in it."""

import json
import re
from dataclasses import dataclass

from tests.support.server import ROOT

GUIDE = (ROOT / "docs/rest_api_guide.md").read_text("utf-8")


@dataclass
class Example:
    """One fenced block of the guide."""

    section: str
    language: str
    code: str


def examples() -> list[Example]:
    found = []
    section = ""
    # Whichever comes first, so that a comment in a block is not taken for a heading.
    for heading, language, code in re.findall(
        r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL
    ):
        section = heading or section
        if language:
            found.append(Example(section, language, code))
    return found


EXAMPLES = examples()
CURL = {e.section: e.code for e in EXAMPLES if e.code.startswith("curl")}
PYTHON = {e.section: e.code for e in EXAMPLES if e.language == "python"}
ANSWERS = {e.section: json.loads(e.code) for e in EXAMPLES if e.language == "json"}
