"""The messages in docs/troubleshooting.md are those of the code."""

import ast
import re

from tests.support.markdown import read, table_rows
from tests.support.server import ROOT

CODE = ["service.py", "settings.py", "common", "api", "runners", "client", "scripts"]
SHORTEST = 8
"""Characters of a piece of a message that is worth looking for."""


def texts() -> str:
    """Every string of the code, without what is formatted into it, and the scripts."""
    found = []
    for top in CODE:
        path = ROOT / top
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.suffix == ".py":
                for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        found.append(node.value)
            elif path.name == "scripts" and file.is_file():
                found.append(file.read_text("utf-8"))
    return "\n".join(found)


def test_every_message_in_the_tables_is_one_of_the_code() -> None:
    code = texts()
    messages = [
        message
        for cells in table_rows(read("docs/troubleshooting.md"))
        for message in re.findall(r"`([^`]+)`", cells[0])
    ]
    pieces = [piece.strip(" ;:") for message in messages for piece in message.split("…")]
    looked_for = [piece for piece in pieces if len(piece) >= SHORTEST]
    assert len(looked_for) > 40
    assert [piece for piece in looked_for if piece not in code] == []
