"""Turns language hints, in any common spelling, into language codes."""

from functools import lru_cache

import langcodes

from common.failures import ErrorCode, Refusal


@lru_cache(maxsize=512)
def language_code(hint: str) -> str:
    """The ISO 639-1 code where there is one, else the ISO 639-3 code.

    "Russian", "ru", "rus" and "Русский" are all "ru". Of several ("rus+eng") the first counts, but
    all must be known.
    Raises `Refusal` (BAD_PARAMETER) that names the unknown one.
    """
    codes = [_code(part.strip()) for part in hint.replace(",", "+").split("+")]
    return codes[0]


def _code(name: str) -> str:
    try:
        language = langcodes.Language.get(name)
        if language.language and language.is_valid():
            return language.language
    except langcodes.LanguageTagError:
        pass
    try:
        return str(langcodes.find(name).language)
    except (LookupError, UnicodeError):  # langcodes makes invalid UTF-8 of a NUL
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"Unknown language '{name[:40]}': send a name or an ISO 639 code, "
            "such as 'Russian' or 'ru'.",
        ) from None
