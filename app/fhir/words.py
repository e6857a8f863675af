"""Searching words: those of a narrative, those of a whole resource, and what is asked of them (R4 search, 3.1.1.4.11).

``(bone OR liver) and metastases``: words must all be there, unless ``or`` stands between them; ``not`` or ``-`` denies,
quotes join words that follow one another, ``*`` ends the beginning of a word. No word is left out, stemmed or
translated: ``no`` and ``A`` mean something in a record, and names of medicines are not English.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NoReturn
from xml.parsers import expat

from app.errors import MalformedSearch, TooCostly
from app.fhir.definitions import RESOURCE_TYPES, is_primitive, json_names
from app.fhir.keys import fold

# Words of a text.

_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = re.compile("['\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}]")


def words_of(text: str) -> list[str]:
    """The words of one piece of text in their order, folded. An apostrophe is no border: ``patient's`` is one."""
    return _WORD.findall(fold(_APOSTROPHES.sub("", text)))


class Words:
    """The words of several pieces of text; what follows one another does so within a piece."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = [found for found in map(words_of, pieces) if found]

    @cached_property
    def _every(self) -> frozenset[str]:
        return frozenset(word for piece in self._pieces for word in piece)

    def hold(self, words: Sequence[str], *, begins: bool) -> bool:
        """Whether ``words`` follow one another somewhere; ``begins``: the last is the beginning of a word."""
        *whole, last = words
        if not self._every.issuperset(whole) or not self._has(last, begins):
            return False
        return not whole or any(
            piece[at : at + len(whole)] == whole and _is(piece[at + len(whole)], last, begins)
            for piece in self._pieces
            for at in range(len(piece) - len(whole))
        )

    def _has(self, word: str, begins: bool) -> bool:
        return word in self._every or (begins and any(one.startswith(word) for one in self._every))


def _is(word: str, asked: str, begins: bool) -> bool:
    return word.startswith(asked) if begins else word == asked


# Words of a resource.


def narrative_words(resource: Mapping[str, Any]) -> Words:
    """What a person reads of the narrative: no tags, no attributes, no comments."""
    narrative = resource.get("text")
    return Words(_narrative(narrative.get("div") if isinstance(narrative, dict) else None))


def content_words(resource: Mapping[str, Any]) -> Words:
    """Every text and code anywhere in it, the narrative's words among them. No ids, references, URIs or Base64."""
    return Words(_content(resource, str(resource.get("resourceType", ""))))


_INLINE = frozenset(
    {
        *(
            "a",
            "abbr",
            "acronym",
            "b",
            "bdo",
            "big",
            "cite",
            "code",
            "dfn",
            "em",
            "font",
            "i",
            "kbd",
            "q",
            "s",
        ),
        *("samp", "small", "span", "strong", "sub", "sup", "tt", "u", "var"),
    }
)
"""Elements that do not end a word: H<sub>2</sub>O is one."""


def _narrative(markup: Any) -> Iterator[str]:
    if isinstance(markup, str):
        reader = _Reader()
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = reader.border
        parser.EndElementHandler = reader.border
        parser.CharacterDataHandler = reader.text.append
        try:
            parser.Parse(markup, True)
        except expat.ExpatError:
            return  # nobody could read it
        yield from "".join(reader.text).split(_BORDER)


_BORDER = "\x1e"
"""Between pieces; no character of XML."""


class _Reader:
    def __init__(self) -> None:
        self.text: list[str] = []

    def border(self, name: str, attributes: object = None) -> None:
        if name.rpartition(" ")[2] not in _INLINE:
            self.text.append(_BORDER)


_TEXTS = frozenset({"string", "markdown", "code"})
_REFERENCE = ("Reference", "reference")
"""A string of R4's that is an address; so is every ``id``."""


def _content(value: Mapping[str, Any], type_name: str) -> Iterator[str]:
    names = json_names(type_name)
    for name, found in value.items():
        element, kind = names.get(name.removeprefix("_"), (None, ""))
        if element is None or name == "id" or (type_name, name) == _REFERENCE:
            continue
        kind = "Element" if name.startswith("_") else kind
        for one in found if isinstance(found, list) else (found,):
            yield from _texts(one, kind)


def _texts(value: Any, kind: str) -> Iterator[str]:
    match value:
        case str() if kind == "xhtml":
            yield from _narrative(value)
        case str() if kind in _TEXTS:
            yield value
        case {"resourceType": str(inner)} if kind == "Resource" and inner in RESOURCE_TYPES:
            yield from _content(value, inner)
        case dict() if not is_primitive(kind):
            yield from _content(value, kind)


# What is asked.


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that follow one another. ``begins``: of the last it is the beginning."""

    words: tuple[str, ...]
    begins: bool = False

    def matches(self, words: Words) -> bool:
        return words.hold(self.words, begins=self.begins)


@dataclass(frozen=True, slots=True)
class Without:
    part: "Asked"

    def matches(self, words: Words) -> bool:
        return not self.part.matches(words)


@dataclass(frozen=True, slots=True)
class Together:
    word: Literal["and", "or"]
    parts: tuple["Asked", ...]

    def matches(self, words: Words) -> bool:
        every = all if self.word == "and" else any
        return every(part.matches(words) for part in self.parts)


Asked = Phrase | Without | Together

MOST_WORDS = 50
DEEPEST = 12
"""Parentheses and denials inside one another."""


def read_words(name: str, text: str) -> Asked:
    """What ``text`` asks of words. Raises MalformedSearch and TooCostly."""
    reader = _Asking(name, text)
    found = reader.either(0)
    if reader.left:
        reader.refuse("a parenthesis is closed that was not opened")
    return found


_PART = re.compile(r'\(|\)|-?"[^"]*"\*?|[^\s()"]+|"')


class _Asking:
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.left = _PART.findall(text)[::-1]
        if len(self.left) > 2 * MOST_WORDS:
            raise TooCostly(f"{name}: at most {MOST_WORDS} words can be asked at once.")

    def refuse(self, sentence: str) -> NoReturn:
        raise MalformedSearch(f"{self.name}: {sentence}.")

    def _next(self) -> str:
        return self.left[-1].lower() if self.left else ""

    def _take(self, word: str) -> bool:
        if self._next() != word:
            return False
        self.left.pop()
        return True

    def either(self, depth: int) -> Asked:
        parts = [self._all(depth)]
        while self._take("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Together("or", tuple(parts))

    def _all(self, depth: int) -> Asked:
        parts = [self._one(depth)]
        while self._take("and") or self._next() not in ("", ")", "or"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Together("and", tuple(parts))

    def _one(self, depth: int) -> Asked:
        if depth >= DEEPEST:
            raise TooCostly(f"{self.name}: at most {DEEPEST} parts can stand inside one another.")
        if self._take("not") or self._take("-"):
            return Without(self._one(depth + 1))
        if self._take("("):
            found = self.either(depth + 1)
            if not self._take(")"):
                self.refuse("a parenthesis is not closed")
            return found
        return self._phrase()

    def _phrase(self) -> Asked:
        part = self.left.pop() if self._next() not in ("", ")", "and", "or") else ""
        if part == '"':
            self.refuse("quotes are not closed")
        denied, begins = part.startswith("-"), part.endswith("*")
        words = words_of(part)
        if not words:
            self.refuse(
                "a word is expected, at the beginning, at the end, or beside and, or, not or a parenthesis"
            )
        found = Phrase(tuple(words), begins)
        return Without(found) if denied else found
