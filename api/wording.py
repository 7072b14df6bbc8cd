"""Wording that messages of several files share."""


def counted(number: int, noun: str) -> str:
    """A number and its noun: "one file", "10 files". noun: in the singular, its plural in -s."""
    return f"one {noun}" if number == 1 else f"{number} {noun}s"


def joined(*sentences: str | None) -> str | None:
    """The sentences that there are, as one text; None if there is none."""
    return " ".join(filter(None, sentences)) or None
