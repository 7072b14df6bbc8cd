"""Makes the reply to a prompt from the pages that were read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from common.messages import Line
from runners.reader.questions.request import Wanted, understand
from runners.reader.questions.rows import find_rows, is_on_page
from runners.reader.questions.words import language_of, stems_of
from runners.reader.read_page import ReadPage

_START_LINES = 3
"""Number of lines that are quoted as the beginning of the page."""
_HEADING = 1.25
"""A heading is at least so many times as high as the median line."""
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
class PromptReply:
    """The reply to a prompt."""

    text: str
    lines: list[Line]
    """The lines that the text quotes, in reading order."""


def reply_to(prompt: str, pages: Sequence[ReadPage]) -> PromptReply:
    """The text, or what answers the prompt, or a sentence about the pages in its language."""
    lines = lines_of(pages)
    if not lines:
        return _phrase(prompt, "empty", pages, [])
    stems = stems_of("\n".join(line.text for line in lines))
    request = understand(prompt, lambda word: is_on_page(word, stems))
    match request.wanted:
        case Wanted.TEXT:
            return PromptReply("\n\n".join(page.text for page in pages if page.text), lines)
        case Wanted.DESCRIPTION:
            return _phrase(prompt, "page", pages, [_heading(lines), *lines[:_START_LINES]])
        case Wanted.TITLE:
            return PromptReply(_heading(lines).text, [_heading(lines)])
        case Wanted.ANSWER:
            counted = bool(_COUNT.search(prompt))
            places = {n for t in request.topics for n in find_rows(t, lines, counted=counted)}
            if places:
                found = [lines[n] for n in sorted(places)]
                return PromptReply("\n".join(line.text for line in found), found)
            return _phrase(prompt, "cannot", pages, lines[:_START_LINES])


def lines_of(pages: Sequence[ReadPage]) -> list[Line]:
    """The lines of all pages; where there are several, each line has its page's number."""
    if len(pages) == 1:
        return pages[0].lines
    return [
        line.model_copy(update={"page": number})
        for number, page in enumerate(pages, 1)
        for line in page.lines
    ]


def _phrase(prompt: str, what: str, pages: Sequence[ReadPage], quoted: list[Line]) -> PromptReply:
    lines = lines_of(pages)
    language = language_of(prompt)
    fullest = max(pages, key=lambda page: len(page.lines))
    text = _PHRASES[language][what].format(
        sizes=", ".join(f"{width} x {height}" for width, height in (page.size for page in pages)),
        lines=len(lines),
        language=_NAMES[language][fullest.language],
        heading=_heading(lines).text if lines else "",
        start="\n".join(line.text for line in lines[:_START_LINES]),
    )
    return PromptReply(text, [line for line in lines if line in quoted])


def _heading(lines: Sequence[Line]) -> Line:
    """The first line that is clearly higher than most; otherwise the first."""
    heights = [line.box[3] - line.box[1] for line in lines]
    large = _HEADING * median(heights)
    return next((line for line, h in zip(lines, heights, strict=True) if h >= large), lines[0])
