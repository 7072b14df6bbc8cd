"""The warning about parameters that a route does not have: a misspelt one would pass unseen."""

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import BaseModel

SHOWN = 5
"""At most so many are named,"""
SHOWN_LENGTH = 50
"""and so many characters of each."""


def unknown_parameters(kind: type[BaseModel], names: Iterable[str]) -> str | None:
    """One sentence that names those of `names` that `kind` does not have; None if it has all."""
    known = [field.alias or name for name, field in kind.model_fields.items()]
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if not unknown:
        return None
    listed = ", ".join(_told(name, known) for name in unknown[:SHOWN])
    more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    return f"Parameters that this route does not have were passed over: {listed}{more}."


def _told(name: str, known: list[str]) -> str:
    shown = name if len(name) <= SHOWN_LENGTH else name[:SHOWN_LENGTH] + "…"
    alike = get_close_matches(name.lower(), known, 1)
    return f"'{shown}' (did you mean '{alike[0]}'?)" if alike else f"'{shown}'"
