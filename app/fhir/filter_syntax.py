"""The grammar of ``_filter``: its text as a tree, each part with its place (R4 search_filter).

"Logical expressions are evaluated left to right, with no precedence between and and or." A path may say the type that a
reference is to, as in a chain (``subject:Patient.name``); R4's grammar leaves that out.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NoReturn, get_args

from app.errors import MalformedSearch, TooCostly

Operator = Literal[
    "eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb",
    "pr", "po", "ss", "sb", "in", "ni", "re",
]  # fmt: skip
OPERATORS: tuple[Operator, ...] = get_args(Operator)

MOST_COMPARISONS = 100
DEEPEST = 12
"""Parentheses, brackets, negations and changes between ``and`` and ``or`` inside one another."""


@dataclass(frozen=True, slots=True)
class Step:
    """One parameter of a path."""

    name: str
    """``param`` or ``param:Type``."""
    only: "Filter | None" = None
    """In brackets: which of what the parameter refers to."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``value`` is as it was meant, escapes of JSON undone."""

    path: tuple[Step, ...]
    operator: Operator
    value: str
    is_string: bool
    """It stood in quotes."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Junction:
    word: Literal["and", "or"]
    parts: tuple["Filter", ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Negation:
    part: "Filter"
    start: int
    end: int


Filter = Comparison | Junction | Negation
"""``start`` and ``end`` cut its text out of the whole, parentheses around it included."""


def read_filter(text: str) -> Filter:
    """The filter that ``text`` is. Raises MalformedSearch, which names the character, and TooCostly."""
    reader = _Reader(text)
    found = reader.filter(0)
    if reader.at < len(text):
        reader.refuse("and, or or the end is expected")
    return found


def conjuncts(found: Filter) -> Iterator[Filter]:
    """What must all be so, of which ``found`` is made."""
    if isinstance(found, Junction) and found.word == "and":
        for part in found.parts:
            yield from conjuncts(part)
    else:
        yield found


_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?::[A-Za-z]+)?", re.ASCII)
_WORD = re.compile(r"[A-Za-z]+", re.ASCII)
_NOT = re.compile(r"not\s*\(")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_TOKEN = re.compile(r"[^\s)\]]+")
_SURROGATE_OR_NUL = re.compile("[\ud800-\udfff\0]")


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.comparisons = 0

    def refuse(self, sentence: str) -> NoReturn:
        raise MalformedSearch(f"_filter: at character {self.at + 1}, {sentence}.")

    def filter(self, depth: int) -> Filter:
        """One or several, up to a closing parenthesis or bracket or the end."""
        found = self._one(depth)
        # What was joined here, outside parentheses: of the same word it goes on, of another it goes inside.
        word, parts = "", [found]
        while following := self._take_word():
            if word not in ("", following):
                depth, parts = depth + 1, [found]
            word = following
            parts.append(self._one(depth))
            found = Junction(word, tuple(parts), parts[0].start, parts[-1].end)
        return found

    def _take_word(self) -> Literal["and", "or"] | None:
        self._skip()
        found = _WORD.match(self.text, self.at)
        match found[0] if found else "":
            case ("and" | "or") as word:
                self.at += len(word)
                return word
        return None

    def _one(self, depth: int) -> Filter:
        if depth >= DEEPEST:
            raise TooCostly(f"_filter: at most {DEEPEST} parts can stand inside one another.")
        self._skip()
        start = self.at
        if found := _NOT.match(self.text, start):
            self.at = found.end()
            part = self._closed(")", depth)
            return Negation(part, start, self.at)
        if self.text.startswith("(", start):
            self.at += 1
            return replace(self._closed(")", depth), start=start, end=self.at)
        return self._comparison(depth)

    def _closed(self, end: str, depth: int) -> Filter:
        found = self.filter(depth + 1)
        if not self.text.startswith(end, self.at):
            self.refuse(f"and, or or {end} is expected")
        self.at += 1
        return found

    def _comparison(self, depth: int) -> Comparison:
        self.comparisons += 1
        if self.comparisons > MOST_COMPARISONS:
            raise TooCostly(f"_filter: at most {MOST_COMPARISONS} comparisons can be asked at once.")
        start = self.at
        path = tuple(self._path(depth))
        operator = self._operator()
        value, is_string = self._value()
        return Comparison(path, operator, value, is_string, start, self.at)

    def _path(self, depth: int) -> Iterator[Step]:
        while True:
            name = _NAME.match(self.text, self.at)
            if name is None:
                self.refuse("the name of a search parameter is expected")
            self.at = name.end()
            only = None
            if self.text.startswith("[", self.at):
                self.at += 1
                only = self._closed("]", depth)
            yield Step(name[0], only)
            if not self.text.startswith(".", self.at):
                break
            self.at += 1
        if only is not None:
            self.refuse("a dot and a parameter of what is in the brackets are expected")

    def _operator(self) -> Operator:
        self._skip()
        found = _WORD.match(self.text, self.at)
        known = next((one for one in OPERATORS if found and one == found[0]), None)
        if known is None:
            self.refuse(f"an operator is expected, one of {', '.join(OPERATORS)}")
        self.at += len(known)
        return known

    def _value(self) -> tuple[str, bool]:
        before = self.at
        self._skip()
        is_string = self.text.startswith('"', self.at)
        found = (_STRING if is_string else _TOKEN).match(self.text, self.at)
        if found is None or (self.at == before and not is_string):
            self.refuse("a string in quotes has no end" if is_string else "a value is expected")
        value = self._unquoted(found[0]) if is_string else found[0]
        self.at = found.end()
        return value, is_string

    def _unquoted(self, text: str) -> str:
        try:
            value = str(json.loads(text, strict=False))
        except json.JSONDecodeError:
            self.refuse("the string in quotes has an escape that JSON does not know")
        if _SURROGATE_OR_NUL.search(value):
            self.refuse("the string in quotes has an escape that is no text")
        return value

    def _skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
