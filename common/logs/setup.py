"""How a process of the server logs: as text or as JSON, with the id of the request."""

import logging

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from common.logs import request_ids

REQUESTS = "requests"
"""The logger that has one line a request."""
_OURS = ("api", "common", "runners", "service", REQUESTS)
_TIME = "%Y-%m-%dT%H:%M:%S%z"
_OF_BENTOML = ("trace_msg", "levelname_bracketed", "service_name")
"""What BentoML's filter adds to each record beside `component`, the name of the process."""


def configure(as_json: bool) -> None:
    """Set up the handlers that BentoML has made for a process of its server."""
    formatter = _json_formatter() if as_json else _TextFormatter()
    for logger in (logging.getLogger(), logging.getLogger("bentoml")):
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setFormatter(formatter)
                handler.addFilter(_complete)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)


def _complete(record: logging.LogRecord) -> bool:
    """Set the record's `request_id` in place of BentoML's number, and a plain `component`."""
    fields = vars(record)
    fields["component"] = str(fields.get("component", "")).strip("[]")
    fields["request_id"] = request_ids.current.get()
    if not fields["request_id"]:
        del fields["request_id"]
    return True


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        "%(asctime)s %(levelname)s %(component)s %(name)s %(message)s",
        datefmt=_TIME,
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        reserved_attrs=[*RESERVED_ATTRS, *_OF_BENTOML],
        json_ensure_ascii=False,
    )


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(levelname)s] [%(component)s] %(message)s", _TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, with the further fields of the record behind its message."""
        fields = {
            name: value
            for name, value in vars(record).items()
            if name not in {*RESERVED_ATTRS, *_OF_BENTOML, "component", "message", "asctime"}
        }
        told = [f" {name}={_shown(value)}" for name, value in fields.items()]
        return super().formatMessage(record) + "".join(told)


def _shown(value: object) -> str:
    """The value in one word: a text that has spaces or line breaks is quoted."""
    text = str(value)
    return text if text.isprintable() and text and " " not in text else repr(text)
