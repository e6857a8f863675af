"""Expressions of FHIRPath as trees: what R4's search parameters use, and what the paths of a patch may.

``app.fhir.fhirpath`` compiles a part of it, ``app.fhir.patching.places`` walks all of it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

MOST_CHARACTERS = 4_000
MOST_WORDS = 200
"""Names, literals and signs; no tree is deeper."""
MOST_PARENTHESES = 16
"""Inside one another: the reader goes down with them."""


class ExpressionError(ValueError):
    """The expression is not in the subset, or names what R4 does not define."""


# What an expression says.


@dataclass(frozen=True, slots=True)
class This:
    """The context of the expression, if its type is ``type`` or a specialisation of it; ``""`` for any."""

    type: str = ""


@dataclass(frozen=True, slots=True)
class WholeResource:
    """``%resource``."""


@dataclass(frozen=True, slots=True)
class Child:
    of: "Node"
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    of: "Node"
    place: int


@dataclass(frozen=True, slots=True)
class First:
    of: "Node"


@dataclass(frozen=True, slots=True)
class Last:
    of: "Node"


@dataclass(frozen=True, slots=True)
class Where:
    of: "Node"
    condition: "Node"


@dataclass(frozen=True, slots=True)
class As:
    of: "Node"
    type: str


@dataclass(frozen=True, slots=True)
class Resolve:
    of: "Node"


@dataclass(frozen=True, slots=True)
class Is:
    of: "Node"
    type: str


@dataclass(frozen=True, slots=True)
class Exists:
    of: "Node"


@dataclass(frozen=True, slots=True)
class Not:
    of: "Node"


@dataclass(frozen=True, slots=True)
class Value:
    value: str | bool | int | Decimal


@dataclass(frozen=True, slots=True)
class Same:
    left: "Node"
    right: "Node"
    negated: bool


@dataclass(frozen=True, slots=True)
class Both:
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """``or``."""

    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Either:
    """``|``."""

    left: "Node"
    right: "Node"


Node = (
    This
    | WholeResource
    | Child
    | Item
    | First
    | Last
    | Where
    | As
    | Resolve
    | Is
    | Exists
    | Not
    | Value
    | Same
    | Both
    | AnyOf
    | Either
)

_WORD = re.compile(
    r"\s*(?:([%$]?[A-Za-z_][A-Za-z0-9_]*|`[A-Za-z_][A-Za-z0-9_]*`)|('(?:[^'\\]|\\.)*')"
    r"|([0-9]+(?:\.[0-9]+)?)|(!=|[.()\[\]|=]))"
)
_WHOLE = re.compile("[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]{1,64}(?:\.[0-9]{1,64})?")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED = {"f": "\f", "n": "\n", "r": "\r", "t": "\t"} | dict(zip("\\/'\"`", "\\/'\"`", strict=True))


def read(expression: str, *, most_words: int = MOST_WORDS) -> Node:
    """The expression as a tree. Raises ExpressionError.

    For what a caller sends, and what may hold something that nobody should keep: nothing of it is kept here.
    """
    if len(expression) > MOST_CHARACTERS:
        raise ExpressionError(f"longer than {MOST_CHARACTERS} characters")
    words = list(_words(expression))
    if len(words) > most_words:
        raise ExpressionError(f"more than {most_words} words")
    reader = _Reader(expression, words)
    node = reader.disjunction()
    if reader.next() is not None:
        raise ExpressionError(f"not understood: {expression}")
    return node


@lru_cache(maxsize=2_048)
def parse(expression: str) -> Node:
    """The same for an expression of R4: those are few, and some are long."""
    return read(expression, most_words=MOST_CHARACTERS)


class _Reader:
    """Recursive descent; one method for each level of precedence that the subset has."""

    def __init__(self, expression: str, words: Sequence[str]) -> None:
        self._expression = expression
        self._words = words
        self._at = 0
        self._depth = 0

    def next(self) -> str | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def take(self) -> str:
        word = self.next()
        if word is None:
            raise ExpressionError(f"ends too early: {self._expression}")
        self._at += 1
        return word

    def expect(self, word: str) -> None:
        if self.take() != word:
            raise ExpressionError(f"{word} expected: {self._expression}")

    def accept(self, word: str) -> bool:
        if self.next() != word:
            return False
        self._at += 1
        return True

    def disjunction(self) -> Node:
        self._depth += 1
        if self._depth > MOST_PARENTHESES:
            raise ExpressionError(f"more than {MOST_PARENTHESES} parentheses inside one another")
        node = self.conjunction()
        while self.accept("or"):
            node = AnyOf(node, self.conjunction())
        self._depth -= 1
        return node

    def conjunction(self) -> Node:
        node = self.equality()
        while self.accept("and"):
            node = Both(node, self.equality())
        return node

    def equality(self) -> Node:
        node = self.union()
        if self.next() in ("=", "!="):
            return Same(node, negated=self.take() == "!=", right=self.union())
        return node

    def union(self) -> Node:
        node = self.typed()
        while self.accept("|"):
            node = Either(node, self.typed())
        return node

    def typed(self) -> Node:
        node = self.path()
        if self.accept("as"):
            return As(node, self.take())
        if self.accept("is"):
            return Is(node, self.take())
        return node

    def path(self) -> Node:
        node = self.term()
        while self.next() in (".", "["):
            if self.take() == "[":
                node = Item(node, self.place())
                self.expect("]")
            else:
                node = self.member(node, self.take())
        return node

    def place(self) -> int:
        word = self.take()
        if not _WHOLE.fullmatch(word):
            raise ExpressionError(f"an index expected: {self._expression}")
        return int(word)

    def term(self) -> Node:
        word = self.take()
        if word == "(":
            node = self.disjunction()
            self.expect(")")
            return node
        if word.startswith("'"):
            return Value(self.unescaped(word))
        if _NUMBER.fullmatch(word):
            return Value(Decimal(word) if "." in word else int(word))
        if word in ("true", "false"):
            return Value(word == "true")
        if word == "%resource":
            return WholeResource()
        if word == "$this":
            return This()
        if word[0].isupper():
            return This(word)
        return self.member(This(), word)

    def member(self, of: Node, name: str) -> Node:
        if not self.accept("("):
            name = name.strip("`")
            if not name[0].isalpha():
                raise ExpressionError(f"{name} is not an element: {self._expression}")
            return Child(of, name)
        node = self.function(of, name)
        self.expect(")")
        return node

    def function(self, of: Node, name: str) -> Node:
        match name:
            case "where":
                return Where(of, self.disjunction())
            case "extension":
                return Where(Child(of, name), Same(Child(This(), "url"), Value(self.text()), negated=False))
            case "as" | "ofType":
                return As(of, self.take())
            case "first":
                return First(of)
            case "last":
                return Last(of)
            case "exists":
                return Exists(of)
            case "empty":
                return Not(Exists(of))
            case "not":
                return Not(of)
            case "resolve":
                return Resolve(of)
            case _:
                raise ExpressionError(f"{name}() is not in the subset: {self._expression}")

    def text(self) -> str:
        word = self.take()
        if not word.startswith("'"):
            raise ExpressionError(f"a text in quotation marks expected: {self._expression}")
        return self.unescaped(word)

    def unescaped(self, word: str) -> str:
        def plain(escape: re.Match[str]) -> str:
            if len(escape[1]) == 5:
                return chr(int(escape[1][1:], 16))
            if escape[1] not in _ESCAPED:
                raise ExpressionError(f"FHIRPath has no such escape: {self._expression}")
            return _ESCAPED[escape[1]]

        return _ESCAPE.sub(plain, word[1:-1])


def _words(expression: str) -> Iterator[str]:
    at, end = 0, len(expression.rstrip())
    while at < end:
        found = _WORD.match(expression, at)
        if found is None:
            raise ExpressionError(f"not understood from {at}: {expression}")
        yield found[found.lastindex or 0]
        at = found.end()
