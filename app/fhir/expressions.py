"""The expressions of R4's search parameters as trees: the subset of FHIRPath that ``app.fhir.fhirpath`` compiles."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache


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
class Value:
    value: str | bool


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
class Either:
    """``|``."""

    left: "Node"
    right: "Node"


Node = This | WholeResource | Child | Item | Where | As | Resolve | Is | Exists | Value | Same | Both | Either

_WORD = re.compile(r"\s*(?:(%?[A-Za-z_][A-Za-z0-9_]*)|('(?:[^'\\]|\\.)*')|(\d+)|(!=|[.()\[\]|=]))")


@lru_cache(maxsize=2_048)
def parse(expression: str) -> Node:
    """The expression as a tree. Raises ExpressionError."""
    reader = _Reader(expression)
    node = reader.conjunction()
    if reader.next() is not None:
        raise ExpressionError(f"not understood: {expression}")
    return node


class _Reader:
    """Recursive descent; one method for each level of precedence that the subset has."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._words = list(_words(expression))
        self._at = 0

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
                node = Item(node, int(self.take()))
                self.expect("]")
            else:
                node = self.member(node, self.take())
        return node

    def term(self) -> Node:
        word = self.take()
        if word == "(":
            node = self.conjunction()
            self.expect(")")
            return node
        if word.startswith("'"):
            return Value(re.sub(r"\\(.)", r"\1", word[1:-1]))
        if word in ("true", "false"):
            return Value(word == "true")
        if word == "%resource":
            return WholeResource()
        if word[0].isupper():
            return This(word)
        return self.member(This(), word)

    def member(self, of: Node, name: str) -> Node:
        if not self.accept("("):
            if not name[0].isalpha():
                raise ExpressionError(f"{name} is not an element: {self._expression}")
            return Child(of, name)
        node = self.function(of, name)
        self.expect(")")
        return node

    def function(self, of: Node, name: str) -> Node:
        match name:
            case "where":
                return Where(of, self.conjunction())
            case "as" | "ofType":
                return As(of, self.take())
            case "exists":
                return Exists(of)
            case "resolve":
                return Resolve(of)
            case _:
                raise ExpressionError(f"{name}() is not in the subset: {self._expression}")


def _words(expression: str) -> Iterator[str]:
    at, end = 0, len(expression.rstrip())
    while at < end:
        found = _WORD.match(expression, at)
        if found is None:
            raise ExpressionError(f"not understood from {at}: {expression}")
        yield found[found.lastindex or 0]
        at = found.end()
