"""A resource's text as a tree that can be changed, and that keeps every byte of what is not.

A value is its text until somebody looks inside; only then is it cut into members or items, whose texts are theirs
in turn. What is taken away takes one comma with it, what is added brings one, and nothing else moves.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.errors import BusinessRule, MalformedBody, TooCostly, UnprocessablePatch
from app.fhir.text import DEEPEST, array_item_spans, member_spans, parse, read_value

MOST_OPERATIONS = 1_000
LARGEST_COPIES = 4 * 1024 * 1024
"""Characters that the copies of one patch may add: else thirty of them make gigabytes of a word."""

_READINGS = 16
"""How often a patch may have its own text and the resource's read."""
_SPARE = 32 * 1024 * 1024
_STEP = 200
"""Visiting one element costs what reading so many characters does, or more: a second of visits is the most."""

_SPACE = " \t\n\r"
_TOO_DEEP = f"it would leave more than {DEEPEST} levels of objects and arrays."


class RefusedError(Exception):
    """One operation cannot be applied; the text says why and holds no value of the resource."""


class Meter:
    """What one patch may still cost, counted in characters looked at."""

    def __init__(self, characters: int) -> None:
        self._left = _READINGS * characters + _SPARE
        self._copied = 0

    def spend(self, characters: int) -> None:
        """Raises TooCostly when the patch makes the same text be read over and over."""
        self._left -= characters
        if self._left < 0:
            raise TooCostly("Applying this patch would cost too much. Send it in parts.")

    def step(self) -> None:
        """One element is visited."""
        self.spend(_STEP)

    def copy(self, characters: int) -> None:
        self._copied += characters
        if self._copied > LARGEST_COPIES:
            raise TooCostly("This patch copies too much. Send the new content instead.")


# Values.


class Value(ABC):
    """One JSON value of a text that ``parse`` accepted, without the white space around it."""

    __slots__ = ("_text", "meter")

    def __init__(self, text: str, meter: Meter) -> None:
        self._text = text
        self.meter = meter

    @property
    def text(self) -> str:
        pieces: list[str] = []
        self.write(pieces)
        return "".join(pieces)

    @abstractmethod
    def write(self, pieces: list[str]) -> None:
        """Appends the text, in order."""

    @abstractmethod
    def equals(self, other: Any) -> bool:
        """Whether this is the parsed value ``other``: numbers by value, members in any order (RFC 6902, 4.6)."""

    def copied(self) -> "Value":
        text = self.text
        self.meter.copy(len(text))
        return self.made(text)

    def made(self, text: str) -> "Value":
        """A value that belongs to the same patch."""
        return value_of(text, self.meter)


@dataclass(slots=True)
class _Part:
    """A member or an item: what stands before it, its name as it is written, its value."""

    gap: str
    """White space, and a comma unless this is the first."""
    label: str
    """``"name" :`` and white space; empty for an item."""
    value: Value

    def write(self, pieces: list[str]) -> None:
        pieces += (self.gap, self.label)
        self.value.write(pieces)


class Scalar(Value):
    """A string, a number, true, false or null."""

    __slots__ = ("_value",)

    def __init__(self, text: str, meter: Meter) -> None:
        super().__init__(text, meter)
        self._value: Any = ...

    @property
    def value(self) -> Any:
        if self._value is ...:
            self._value = read_value(self._text)
        return self._value

    def write(self, pieces: list[str]) -> None:
        pieces.append(self._text)

    def equals(self, other: Any) -> bool:
        mine = self.value
        if _is_number(mine) and _is_number(other):
            return bool(mine == other)
        return type(mine) is type(other) and bool(mine == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


class Object(Value):
    """Members by name, in the order of the text."""

    __slots__ = ("_closing", "_members")

    def __init__(self, text: str, meter: Meter) -> None:
        super().__init__(text, meter)
        self._members: dict[str, _Part] | None = None
        self._closing = "}"

    def _opened(self) -> dict[str, _Part]:
        if self._members is None:
            self.meter.spend(len(self._text))
            self._members, end = {}, 1
            for name, (begin, after) in member_spans(self._text).items():
                # Only white space and a comma can stand before the quotation mark that opens the name.
                quote = self._text.index('"', end)
                value = value_of(self._text[begin:after], self.meter)
                self._members[name] = _Part(self._text[end:quote], self._text[quote:begin], value)
                end = after
            self._closing = self._text[end:]
        return self._members

    def __contains__(self, name: str) -> bool:
        return name in self._opened()

    def __len__(self) -> int:
        return len(self._opened())

    def names(self) -> Iterator[str]:
        yield from self._opened()

    def get(self, name: str) -> Value | None:
        part = self._opened().get(name)
        return part.value if part else None

    def put(self, name: str, value: Value) -> None:
        """In the place of the member of this name, or as the last."""
        members = self._opened()
        if name in members:
            members[name].value = value
        else:
            members[name] = _Part("," * bool(members), _label(name), value)

    def rename(self, name: str, new: str) -> None:
        """The member ``name``, which is there, keeps its place; ``new`` is not there."""
        self._members = {
            (new if each == name else each): (
                _Part(part.gap, _label(new), part.value) if each == name else part
            )
            for each, part in self._opened().items()
        }

    def remove(self, name: str) -> Value:
        """Raises KeyError."""
        members = self._opened()
        is_first = name == next(iter(members), None)
        removed = members.pop(name)
        if not members:
            self._closing = "}"
        elif is_first:
            next(iter(members.values())).gap = removed.gap
        return removed.value

    def write(self, pieces: list[str]) -> None:
        if self._members is None:
            pieces.append(self._text)
            return
        pieces.append("{")
        for part in self._members.values():
            part.write(pieces)
        pieces.append(self._closing)

    def equals(self, other: Any) -> bool:
        if not isinstance(other, dict) or other.keys() != self._opened().keys():
            return False
        return all(part.value.equals(other[name]) for name, part in self._opened().items())


class Array(Value):
    """Items in the order of the text."""

    __slots__ = ("_closing", "_items")

    def __init__(self, text: str, meter: Meter) -> None:
        super().__init__(text, meter)
        self._items: list[_Part] | None = None
        self._closing = "]"

    def _opened(self) -> list[_Part]:
        if self._items is None:
            self.meter.spend(len(self._text))
            self._items, end = [], 1
            for begin, after in array_item_spans(self._text, 0):
                value = value_of(self._text[begin:after], self.meter)
                self._items.append(_Part(self._text[end:begin], "", value))
                end = after
            self._closing = self._text[end:]
        return self._items

    def __len__(self) -> int:
        return len(self._opened())

    def __getitem__(self, index: int) -> Value:
        return self._opened()[index].value

    def __iter__(self) -> Iterator[Value]:
        return (part.value for part in self._opened())

    def replace(self, index: int, value: Value) -> None:
        self._opened()[index].value = value

    def insert(self, index: int, value: Value) -> None:
        """Before the item at ``index``, or as the last when ``index`` is their number."""
        items = self._opened()
        part = _Part("," * bool(items), "", value)
        if items and index == 0:
            part.gap, items[0].gap = items[0].gap, ","
        items.insert(index, part)

    def remove(self, index: int) -> Value:
        items = self._opened()
        removed = items.pop(index)
        if not items:
            self._closing = "]"
        elif index == 0:
            items[0].gap = removed.gap
        return removed.value

    def write(self, pieces: list[str]) -> None:
        if self._items is None:
            pieces.append(self._text)
            return
        pieces.append("[")
        for part in self._items:
            part.write(pieces)
        pieces.append(self._closing)

    def equals(self, other: Any) -> bool:
        if not isinstance(other, list) or len(other) != len(self):
            return False
        return all(mine.equals(theirs) for mine, theirs in zip(self, other, strict=True))


def value_of(text: str, meter: Meter) -> Value:
    """``text`` is that of one value, without white space around it."""
    match text[0]:
        case "{":
            return Object(text, meter)
        case "[":
            return Array(text, meter)
        case _:
            return Scalar(text, meter)


def _label(name: str) -> str:
    return json.dumps(name, ensure_ascii=False) + ":"


# The whole.


class Document:
    """The resource that is patched: changed through its tree, given back as text when every operation was applied.

    ``text`` is one that ``parse`` accepted; ``patch`` is the patch's, whose pieces become part of the tree.
    """

    def __init__(self, text: str, patch: str) -> None:
        self.meter = Meter(len(text) + len(patch))
        body = text.strip(_SPACE)
        self._before, _, self._behind = text.partition(body)
        self.root = self.value(body)
        self._type, self._id = (self._at_root(name) for name in ("resourceType", "id"))

    @property
    def resource_type(self) -> str:
        """Empty when there is none."""
        return self._type if isinstance(self._type, str) else ""

    def value(self, text: str) -> Value:
        """Of a piece of the patch: white space around it is left away."""
        return value_of(text.strip(_SPACE), self.meter)

    @contextmanager
    def operation(self, number: int, *, of: int, name: str, expression: str | None = None) -> Iterator[None]:
        """Says of a refusal which operation it is about; ``number`` counts from one."""
        try:
            yield
        except (RefusedError, RecursionError) as error:
            reason = error if isinstance(error, RefusedError) else _TOO_DEEP
            raise UnprocessablePatch(
                f"Operation {number} of {of} ({name}) cannot be applied: {reason}", expression=expression
            ) from error

    def finished(self) -> str:
        """Raises UnprocessablePatch for what is no resource's text, BusinessRule for another type or id."""
        if not isinstance(self.root, Object):
            raise UnprocessablePatch("The patch cannot be applied: it would leave no JSON object.")
        try:
            text = f"{self._before}{self.root.text}{self._behind}"
            value = parse(text).value
        except (MalformedBody, RecursionError) as error:
            raise UnprocessablePatch(f"The patch cannot be applied: {_TOO_DEEP}") from error
        if value.get("resourceType") != self._type:
            raise BusinessRule("A patch may not change a resource's type.", expression=self.resource_type)
        if value.get("id") != self._id:
            raise BusinessRule(
                "A patch may not change a resource's id.", expression=f"{self.resource_type}.id"
            )
        return text

    def _at_root(self, name: str) -> Any:
        found = self.root.get(name) if isinstance(self.root, Object) else None
        return None if found is None else read_value(found.text)
