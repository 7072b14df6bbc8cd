"""Finds out what a prompt asks for: the whole text, a description, the title, or something else.

A prompt is judged by what it asks for beyond reading, because nobody can list the words of all
prompts. A sentence that mentions reading or text asks for the text of the page, unless its object
is something else: a field ("Extract the total"), or a word that stands on the page. Words that are
unknown and not on the page tell how to read, or what the page is.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from runners.reader.questions.fields import field_of
from runners.reader.questions.vocabulary import Kind, is_adverb, kinds_of
from runners.reader.questions.words import words_of


class Wanted(Enum):
    """What a prompt asks for."""

    TEXT = auto()
    DESCRIPTION = auto()
    TITLE = auto()
    ANSWER = auto()
    """Something that the text may hold, or that no reader can tell."""


@dataclass(frozen=True)
class PromptRequest:
    """What a prompt asks for, and about what."""

    wanted: Wanted
    topics: tuple[tuple[str, ...], ...] = ()
    """The words of each thing that is asked for, where an answer is."""


OnPage = Callable[[str], bool]
"""Whether the page has a word, or a misread form of it."""

_TAG = re.compile(r"<[^<>]{0,40}>")
"""Marks that clients put before a prompt, such as "<image>"."""
_SENTENCE = re.compile(r"[^.!?;\n]+(?:\.(?=\w)[^.!?;\n]*)*[.!?;\n]*")
_INTO_TEXT = re.compile(r"\b(?:translate|перевед\w+|перевести)\b", re.IGNORECASE)
_TEXTUAL = {Kind.TEXT, Kind.FORMAT}
_SEARCHED = {Kind.SIGHT, Kind.BEYOND, Kind.KIND, Kind.TITLE, Kind.LOOKS, Kind.DONE}
_ABOUT_READING = {Kind.READ, Kind.EXTRACT, Kind.SAYS, *_TEXTUAL}


class _Verdict(Enum):
    TEXT = auto()
    DESCRIPTION = auto()
    TITLE = auto()
    QUESTION = auto()
    FIELD = auto()
    """A thing is asked for, though not in a question: "the total"."""
    UNCLEAR = auto()
    """Words of which none is known: "You are helpful"."""
    NOTHING = auto()


def understand(prompt: str, on_page: OnPage) -> PromptRequest:
    """What the prompt asks for. A prompt without a request asks for the text."""
    sentences = [_Sentence(text, on_page) for text in _SENTENCE.findall(_TAG.sub(" ", prompt))]
    main = [sentence for sentence in sentences if not sentence.is_condition] or sentences
    verdicts = [(sentence.verdict(), sentence) for sentence in main if sentence.words]
    found = {verdict for verdict, _ in verdicts}
    asking = [s for verdict, s in verdicts if verdict is _Verdict.QUESTION]
    if not asking and _Verdict.TEXT in found:
        return PromptRequest(Wanted.TEXT)
    asking = asking or [s for verdict, s in verdicts if verdict is _Verdict.FIELD]
    if not asking and _Verdict.TITLE in found:
        return PromptRequest(Wanted.TITLE)
    if not asking and _Verdict.DESCRIPTION in found:
        return PromptRequest(Wanted.DESCRIPTION)
    if not asking and _Verdict.NOTHING not in found:
        asking = [s for verdict, s in verdicts if verdict is _Verdict.UNCLEAR]
    if asking:
        return PromptRequest(
            Wanted.ANSWER, tuple(topic for sentence in asking for topic in sentence.topics())
        )
    return PromptRequest(Wanted.TEXT)


class _Sentence:
    """One sentence of a prompt."""

    def __init__(self, text: str, on_page: OnPage) -> None:
        self._on_page = on_page
        text = re.sub(r"n['’]t\b", " not", text)
        clauses = [list(_wanted_words(clause)) for clause in re.split(r",\s|[()]", text)]
        self.words = [word for clause in clauses for word in clause]
        self._clauses = clauses
        self._kinds = {word: kinds_of(word) for word in self.words}
        first = self._kinds[self.words[0]] if self.words else frozenset()
        asks = any(Kind.ASK in self._kinds[word] for word in self.words[:3])
        self._is_question = asks or Kind.AUX in first or text.rstrip().endswith("?")
        if Kind.POLITE in first and not asks:  # "Can you read this?" is no question
            self._is_question = False
        self.is_condition = Kind.CONDITION in first and "?" not in text

    def verdict(self) -> _Verdict:
        """What the sentence asks for."""
        if self._has(Kind.BEYOND) and not self._turns_into_text():
            return _Verdict.QUESTION
        yes_or_no = self._is_question and not self._has(Kind.ASK, Kind.READ, Kind.EXTRACT)
        if yes_or_no and self._has(Kind.LOOKS):
            return _Verdict.QUESTION
        if self._has(Kind.ABOUT):
            about = [word for word in self._after(Kind.ABOUT) if self._is_topic(word)]
            if any(map(self._on_page, about)) or (about and self._is_question):
                return _Verdict.QUESTION
            if not self._has(Kind.READ, Kind.EXTRACT, *_TEXTUAL):
                return _Verdict.QUESTION if about else _Verdict.DESCRIPTION
        if self._first(Kind.DESCRIBE) < self._first(*_ABOUT_READING):
            return self._description()
        if self._has(Kind.TITLE) and not self._has(Kind.TEXT, Kind.FORMAT):
            return _Verdict.QUESTION if self._others(Kind.TITLE) else _Verdict.TITLE
        if self._is_question and self._has(Kind.WHO):
            return _Verdict.QUESTION
        if self._has(*_ABOUT_READING):
            return self._of_question() if self._is_question else self._of_command()
        if self._is_question:
            return self._without_reading()
        if any(field_of(word) or Kind.SIGHT in self._kinds[word] for word in self.words):
            return _Verdict.FIELD
        unknown = [word for word in self.words if self._is_topic(word)]
        if any(map(self._on_page, unknown)):
            return _Verdict.FIELD
        if self._has(Kind.PAGE, Kind.KIND) or (self._has(Kind.ALL) and not unknown):
            return _Verdict.TEXT  # "Everything", "Dump this page": nothing but a page can be wanted
        return _Verdict.UNCLEAR if unknown else _Verdict.NOTHING

    def topics(self) -> Iterator[tuple[str, ...]]:
        """The words of each thing that is asked for; several if fields are listed."""
        listed: list[list[str]] = []
        for clause in self._clauses:
            parts = " ".join(clause).replace(" и ", " and ").split(" and ")
            listed += [[w for w in part.split() if self._is_of_topic(w)] for part in parts]
        listed = [words for words in listed if words]
        if len(listed) > 1 and all(any(map(field_of, words)) for words in listed):
            yield from map(tuple, listed)
        else:
            yield tuple(dict.fromkeys(word for words in listed for word in words))

    def _of_command(self) -> _Verdict:
        """The verdict on a command that mentions reading or text: its object decides."""
        verb = self._first(Kind.READ, Kind.EXTRACT)
        has_verb = verb <= self._first(*_TEXTUAL) and verb < len(self.words)
        words = self.words[verb + 1 :] if has_verb else self.words
        extracts = has_verb and Kind.EXTRACT in self._kinds[self.words[verb]]
        for phrase in self._phrases(words):
            if any(self._kinds[word] & _TEXTUAL and not field_of(word) for word in phrase):
                return _Verdict.TEXT
            objects = [w for w in phrase if self._is_topic(w) or self._is_field(w)]
            if any(self._is_field(word) or self._on_page(word) for word in objects):
                return _Verdict.FIELD
            if objects:
                return _Verdict.FIELD if extracts else _Verdict.TEXT
        return _Verdict.TEXT

    def _of_question(self) -> _Verdict:
        """The verdict on a question that mentions reading or text, such as "What does it say?"."""
        others = self._others(*_ABOUT_READING, Kind.SEE, Kind.DESCRIBE)
        asked_for = [word for word in others if self._is_field(word) or self._on_page(word)]
        return _Verdict.QUESTION if asked_for else _Verdict.TEXT

    def _without_reading(self) -> _Verdict:
        if self._others(Kind.SEE):
            return _Verdict.QUESTION
        if self._has(Kind.SEE) or self._is_about_inside():
            return _Verdict.TEXT
        return _Verdict.DESCRIPTION

    def _description(self) -> _Verdict:
        if self._is_question and self._others(Kind.DESCRIBE, Kind.SEE):
            return _Verdict.QUESTION
        return _Verdict.DESCRIPTION

    def _is_about_inside(self) -> bool:
        """Whether it asks what is in the page ("What's in it?"), not what the page is."""
        inside = ("content", "содержим", "here", "тут", "здесь")
        return self._has(Kind.JOIN) or any(word.startswith(inside) for word in self.words)

    def _turns_into_text(self) -> bool:
        """Whether "translate" means "convert": into text or Markdown, not into a language."""
        if not _INTO_TEXT.search(" ".join(self.words)):
            return False
        if sum(Kind.BEYOND in self._kinds[word] for word in self.words) > 1:
            return False
        into = [n for n, word in enumerate(self.words) if Kind.INTO in self._kinds[word]]
        return any(self._kinds[word] & _TEXTUAL for n in into for word in self.words[n + 1 : n + 3])

    def _phrases(self, words: Sequence[str]) -> Iterator[list[str]]:
        """The parts of a command's object, up to the words that tell how it is to be done."""
        phrase: list[str] = []
        for word in words:
            if Kind.MANNER in self._kinds[word] and Kind.JOIN not in self._kinds[word]:
                break
            if Kind.JOIN in self._kinds[word]:
                yield phrase
                phrase = []
            else:
                phrase.append(word)
        yield phrase

    def _others(self, *kinds: Kind) -> list[str]:
        """The words that carry a topic and are of none of these kinds."""
        return [
            word
            for word in self.words
            if not self._kinds[word] & set(kinds) and (self._is_topic(word) or field_of(word))
        ]

    def _is_field(self, word: str) -> bool:
        """Whether the word names a field, and not a kind of page."""
        return field_of(word) is not None and not self._kinds[word] & {Kind.KIND, Kind.ASK}

    def _is_topic(self, word: str) -> bool:
        """Whether the word may be what is asked for: it is of no kind, or only eyes see it."""
        return self._kinds[word] <= {Kind.SIGHT} and not is_adverb(word)

    def _is_of_topic(self, word: str) -> bool:
        """Whether lines are searched for the word."""
        return bool(field_of(word)) or self._kinds[word] <= _SEARCHED

    def _has(self, *kinds: Kind) -> bool:
        return self._first(*kinds) < len(self.words)

    def _first(self, *kinds: Kind) -> int:
        """The place of the first word of these kinds; the number of words if there is none."""
        places = (n for n, word in enumerate(self.words) if self._kinds[word] & set(kinds))
        return next(places, len(self.words))

    def _after(self, kind: Kind) -> list[str]:
        return self.words[self._first(kind) + 1 :]


def _wanted_words(clause: str) -> Iterator[str]:
    """The words of a clause up to the negation that begins what is not wanted."""
    words = words_of(clause)
    for n, word in enumerate(words):
        follows = n + 1 < len(words)
        polite = word == "не" and follows and Kind.POLITE in kinds_of(words[n + 1])
        if Kind.NEGATION in kinds_of(word) and follows and not polite:
            return
        yield word
