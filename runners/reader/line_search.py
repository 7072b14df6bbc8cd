"""Searches pages for the lines that answer a question in English or Russian.

There is no language model behind it: the words of the question are compared with those of the
lines. Where the question asks for more than text, the answer says that only text was read.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Literal

import snowballstemmer
from rapidfuzz import fuzz

from common.messages import Line
from runners.reader.read_page import ReadPage

Language = Literal["en", "ru"]

_ALIKE = 80
"""rapidfuzz' ratio, of 100, over which two stems are the same word, misread."""
_SHORT = 4
"""Letters; shorter stems have to be equal."""
_ENOUGH = 0.5
"""Share of the question's weight that a line must hold to answer it."""
_NEARLY_BEST = 0.75
"""Share of the best line's weight that another line must hold to be quoted too."""
_MAX_LINES = 5
"""Largest number of lines that are quoted, without those after a label."""
_START_LINES = 3
"""Number of lines that are quoted as the beginning of the page."""
_HEADING = 1.25
"""A heading is at least so many times as high as the median line."""

_VOCABULARY = {
    "stop": "a an the is are was were be been do does did has have of in on at to for from by "
    "with and or not it this that these those there here what which who whom whose where "
    "why how me my you your i we us our can could would will please tell give show find "
    "stated mentioned about according any anything as many much и или не в во на с со из "
    "к ко по о об от до за для у при что это этот того какой какова кто кого кому кем где "
    "куда зачем почему сколько есть ли бы же мне мой ты вы вас ваш я мы нам наш он его её "
    "их тут там здесь указано сказано говорится найди скажи покажи дай дайте пожалуйста "
    "можно можете чему равен равна который",
    "page": "image picture photo photograph screenshot page document file scan content "
    "изображение картинка фото фотография снимок снимке страница документ файл скан "
    "содержимое содержание",
    "see": "see seen depicted shown displayed contain видишь видно изображено показано "
    "представлено содержит находится look like",
    "describe": "describe description опиши описать описание расскажи",
    "read": "text read write written say transcribe extract recognize recognise ocr all whole "
    "full entire every line word верни написано текст прочитай прочти извлеки извлечь "
    "распознай выведи перепиши весь всё полностью полный строки слова",
    "title": "title heading headline header called заголовок заголовка название называется "
    "озаглавлен",
    "beyond": "color colour person people man woman men women child children face animal object "
    "feel emotion mood happy sad smile beautiful pretty opinion think translate summarize "
    "summarise summary explain цвет человек людей мужчина женщина ребёнок дети лицо "
    "животное предмет чувствует эмоции настроение счастлив грустный улыбка красиво мнение "
    "думаешь нравится переведи перевод перевести резюмируй пересказ перескажи объясни",
    "date": "date day when дата день число когда",
    "sum": "sum total amount price cost pay paid сумма цена стоимость стоит итого",
    "mail": "email mail e-mail почта",
    "phone": "phone telephone tel телефон",
}
"""Words of a question, by what they ask for. Of words with the same stem, one is enough."""
_MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december|"
    "января|февраля|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря"
)
_SHAPES = {
    "date": re.compile(rf"\b\d{{1,4}}[./-]\d\d?[./-]\d{{2,4}}\b|\b(?:{_MONTHS})\b", re.IGNORECASE),
    "sum": re.compile(
        r"[$€£₽]|\b(?:usd|eur|gbp|rub|pounds|dollars|euros?|руб\w*)\b", re.IGNORECASE
    ),
    "mail": re.compile(r"\S@\S+\.\w"),
    "phone": re.compile(r"\+?\d[\d ()-]{6,}\d"),
}
"""What such a thing looks like on a line that does not name it."""
_COUNT = re.compile(r"\bhow many\b|\bcount\b|\bсколько\b|\bпосчитай|\bсосчитай", re.IGNORECASE)
_NAMES = {"en": {"en": "English", "ru": "Russian"}, "ru": {"en": "английский", "ru": "русский"}}
_PHRASES = {
    "en": {
        "page": "The image is {sizes} pixels. Lines of text: {lines}, mostly "
        "{language}. Heading: “{heading}”. It begins:\n{start}\n"
        "Only text was read; for the rest of the picture ask a vision-language model.",
        "empty": "No text was found on the image ({sizes} pixels). This reader reads "
        "only text; for the rest of the picture ask a vision-language model.",
        "cannot": "The text of the page does not answer this, and this reader reads only text; "
        "ask a vision-language model for more. The page begins:\n{start}",
    },
    "ru": {
        "page": "Размер изображения: {sizes} пикселей. Строк текста: {lines}, язык в "
        "основном {language}. Заголовок: «{heading}». Начало:\n{start}\n"
        "Прочитан только текст; об остальном спросите мультимодальную модель.",
        "empty": "На изображении ({sizes} пикселей) текст не найден. Эта модель читает "
        "только текст; об остальном спросите мультимодальную модель.",
        "cannot": "В тексте страницы ответа на это нет, а эта модель читает только текст; "
        "об остальном спросите мультимодальную модель. Начало страницы:\n{start}",
    },
}


@dataclass(frozen=True)
class FoundLines:
    """The answer to a question."""

    text: str
    lines: list[Line]
    """The lines that the text quotes, in reading order."""


def search_lines(question: str, pages: Sequence[ReadPage]) -> FoundLines:
    """The lines that answer the question, or a sentence about the pages in its language."""
    language = _language(question)
    lines = _lines(pages)
    if not lines:
        return _phrase(language, "empty", pages, [])
    topic = _stems(question) - _words("stop") - _words("page")
    if topic & _words("describe") or not topic - _words("see"):
        return _phrase(language, "page", pages, [_heading(lines), *lines[:_START_LINES]])
    if topic <= _words("title") | _words("read") and topic & _words("title"):
        return FoundLines(_heading(lines).text, [_heading(lines)])
    if topic <= _words("read") | _words("see"):
        return FoundLines("\n\n".join(page.text for page in pages if page.text), lines)
    if found := _matches(topic - _words("read"), lines, counted=bool(_COUNT.search(question))):
        return FoundLines("\n".join(line.text for line in found), found)
    return _phrase(language, "cannot", pages, lines[:_START_LINES])


def _lines(pages: Sequence[ReadPage]) -> list[Line]:
    """The lines of all pages; where there are several, each line has its page's number."""
    if len(pages) == 1:
        return pages[0].lines
    return [
        line.model_copy(update={"page": number})
        for number, page in enumerate(pages, 1)
        for line in page.lines
    ]


def _phrase(
    language: Language, what: str, pages: Sequence[ReadPage], quoted: list[Line]
) -> FoundLines:
    lines = _lines(pages)
    fullest = max(pages, key=lambda page: len(page.lines))
    text = _PHRASES[language][what].format(
        sizes=", ".join(f"{width} x {height}" for width, height in (page.size for page in pages)),
        lines=len(lines),
        language=_NAMES[language][fullest.language],
        heading=_heading(lines).text if lines else "",
        start="\n".join(line.text for line in lines[:_START_LINES]),
    )
    return FoundLines(text, [line for line in lines if line in quoted])


def _matches(topic: frozenset[str], lines: Sequence[Line], *, counted: bool) -> list[Line]:
    """The lines that hold most words of the topic; rare words weigh more.

    A word that only a picture could show ("colour") has to be in the line itself. Where something
    is counted, the line has to hold a number.
    """
    held = [frozenset(word for word in topic if _holds(line.text, word)) for line in lines]
    weight = {
        word: math.log(1 + len(lines) / max(1, sum(word in on_line for on_line in held)))
        for word in topic
    }
    scores = [
        0.0
        if not topic & _words("beyond") <= on_line or (counted and not re.search(r"\d", line.text))
        else sum(weight[word] for word in on_line)
        for line, on_line in zip(lines, held, strict=True)
    ]
    best = max(scores)
    if best < _ENOUGH * sum(weight.values()):
        return []
    best_lines = [n for n, score in enumerate(scores) if score >= _NEARLY_BEST * best][:_MAX_LINES]
    # The answer to a label ("Address:") is the line after it.
    after = [n + 1 for n in best_lines if lines[n].text.endswith(":") and n + 1 < len(lines)]
    return [lines[n] for n in sorted({*best_lines, *after})]


def _holds(text: str, word: str) -> bool:
    """Whether the text holds the stem, a misread form of it, or what it stands for (a date)."""
    for kind, shape in _SHAPES.items():
        if word in _words(kind) and shape.search(text):
            return True
    if len(word) < _SHORT:
        return word in _stems(text)
    return any(len(s) >= _SHORT and fuzz.ratio(word, s) >= _ALIKE for s in _stems(text))


def _heading(lines: Sequence[Line]) -> Line:
    """The first line that is clearly higher than most; otherwise the first."""
    heights = [line.box[3] - line.box[1] for line in lines]
    large = _HEADING * median(heights)
    return next((line for line, h in zip(lines, heights, strict=True) if h >= large), lines[0])


def _language(text: str) -> Language:
    cyrillic = len(re.findall(r"[а-яё]", text, re.IGNORECASE))
    return "ru" if cyrillic > len(re.findall(r"[a-z]", text, re.IGNORECASE)) else "en"


@cache
def _words(name: str) -> frozenset[str]:
    return _stems(_VOCABULARY[name])


def _stems(text: str) -> frozenset[str]:
    words = re.findall(r"\w+", text.lower().replace("ё", "е"))
    return frozenset(_stemmer(_language(word)).stemWord(word) for word in words)


@cache
def _stemmer(language: Language) -> "snowballstemmer.stemmer":
    return snowballstemmer.stemmer({"en": "english", "ru": "russian"}[language])
