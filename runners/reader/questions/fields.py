"""Knows the fields that documents have: what they are called, and what their values look like."""

import re
from dataclasses import dataclass

_MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december|"
    "января|февраля|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря"
)
_MONEY = r"[$€£₽]|\b(?:usd|eur|gbp|rub|pounds|dollars|euros?|руб\w*)\b|\d[.,]\d\d(?!\d|[.,/-]\d)"


@dataclass(frozen=True)
class Field:
    """A field of documents."""

    labels: re.Pattern[str]
    """Words that name it, in either language."""
    value: re.Pattern[str] | None = None
    """What its value looks like."""
    generic: bool = False
    """Whether it mostly stands with a word that says which one is meant: "due date"."""


def _field(labels: str, value: str | None = None, *, generic: bool = False) -> Field:
    words = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in labels.split())
    return Field(re.compile(words), (value and re.compile(value, re.IGNORECASE)) or None, generic)


FIELDS = {
    "total": _field("total* итог* итого всего", r"\d"),
    "subtotal": _field("subtotal* подытог* подитог*", r"\d"),
    "sum": _field(
        "sum amount* price* cost* pay paid much payment* сумм* цена цены цене цену цен стоимост* "
        "стоит стоят оплат* платеж* заплат*",
        _MONEY,
        generic=True,
    ),
    "tax": _field("tax* vat ндс налог*", r"\d"),
    "discount": _field("discount* скидк*", r"\d"),
    "change": _field("change сдача сдачи сдачу", r"\d"),
    "cash": _field("cash наличн*", r"\d"),
    "quantity": _field("quantity qty quantities количеств* кол", r"\d"),
    "date": _field(
        "date* day when дата даты дату дате датой день числа числе числу когда dated",
        rf"\b\d{{1,4}}[./-]\d\d?[./-]\d{{2,4}}\b|\b(?:{_MONTHS})\b",
        generic=True,
    ),
    "time": _field("time время времени", r"\d\d?:\d\d"),
    "number": _field("number* num no nr id # № номер* ном", r"\d", generic=True),
    "mail": _field("email* mail* e-mail почт* емейл*", r"\S@\S+\.\w"),
    "phone": _field(
        "phone* telephone* tel mobile телефон* тел",
        r"(?:\+\d|\(\d{3,5}\))[\d ()-]{6,}\d|\b\d{3,5}[ -]\d{2,3}[ -]\d{2,4}\b",
    ),
    "address": _field("address* адрес*"),
    "name": _field("name names surname* имя имени имена фамили* фио", generic=True),
    "customer": _field("customer* client* buyer* заказчик* покупател* клиент*"),
    "seller": _field("seller* vendor* supplier* merchant* продав* поставщик* исполнител*"),
    "invoice": _field("invoice* bill счет счета счете счету счетом счету"),
    "receipt": _field("receipt* чек чека чеке чеку квитанц*"),
    "order": _field("order* заказ заказа заказе заказу"),
    "contract": _field("contract* agreement* договор* контракт*"),
    "passport": _field("passport* паспорт*"),
    "account": _field("account* acct р/с расчетн*", r"\d"),
    "signature": _field("signature* signed подпис*"),
    "website": _field("website* site url сайт*", r"www\.|https?:|\w\.(?:com|org|net|ru)\b"),
}


def field_of(word: str) -> str | None:
    """The name in `FIELDS` of the field that a word in lower case names."""
    return next((name for name, field in FIELDS.items() if field.labels.fullmatch(word)), None)
