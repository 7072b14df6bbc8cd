"""The names of uploaded files, as the clients of many years write them."""

import re
from contextlib import suppress
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from urllib.parse import quote, unquote

from multipart import MultipartSegment

_EXTENDED_NAME = re.compile(r"""filename\*\s*=\s*"?([\w-]*)'[^']*'([^\s;"]+)""", re.ASCII)


def upload_name(part: MultipartSegment) -> str:
    """The file's name in the head of its part; "" where there is none.

    `filename*` (RFC 5987) wins over `filename`. RFC 7578 has no such field, but .NET sends it.
    """
    if extended := _EXTENDED_NAME.search(part.header("Content-Disposition", "")):
        charset, encoded = extended.groups()
        with suppress(LookupError):
            return unquote(encoded, charset or "utf-8", errors="replace")
    return _plain_name(part.filename or "")


def field_name(header: str) -> str:
    """A field's name or another text of a part's head, which the parser decoded as Latin-1.

    It is UTF-8 (RFC 7578, section 5.1); bytes that are not, such as those that curl sends from a
    console with a code page of its own, are replaced.
    """
    return header.encode("latin-1").decode(errors="replace")


def _plain_name(header: str) -> str:
    """The name in `filename`, decoded as `field_name` does.

    It is also decoded where all of it is an encoded word (RFC 2047), as .NET sends it, or is
    percent-encoded (RFC 7578, section 4.2), as aiohttp does.
    """
    name = field_name(header)
    if name.startswith("=?") and name.endswith("?="):
        with suppress(HeaderParseError, LookupError, ValueError):
            return str(make_header(decode_header(name))) or name
    decoded = unquote(name)
    # The parser has decoded quotation marks and line breaks already.
    return decoded if quote(decoded, safe='"\r\n') == name else name
