"""What an operation was given, from the address of a GET or from a Parameters resource (R4 operations, 3.2.0.3).

Either way the same values come out: each parameter that the operation has, by name, of its type.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from app.errors import InvalidInput, UnsupportedInput
from app.fhir.nodes import shown
from app.fhir.terminology import Coding

Kind = Literal[
    "text", "date", "boolean", "whole", "Coding", "CodeableConcept", "CodeSystem", "ValueSet", "unsupported"
]
"""``text``: code, uri, canonical, string, whichever of them it is sent as. ``date``: date, dateTime or instant, as
text. ``whole``: an integer of 0 or more.
"""

_PRESENTATION: Final = ("_format", "_pretty")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_TEXT_TYPES: Final = tuple(
    f"value{kind}" for kind in ("String", "Code", "Uri", "Canonical", "Url", "Id", "Markdown")
)
_SENT_AS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "text": _TEXT_TYPES,
    "date": ("valueDate", "valueDateTime", "valueInstant"),
    "boolean": ("valueBoolean",),
    "whole": ("valueInteger", "valueUnsignedInt", "valuePositiveInt"),
    "Coding": ("valueCoding",),
    "CodeableConcept": ("valueCodeableConcept",),
    "CodeSystem": ("resource",),
    "ValueSet": ("resource",),
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """Values by name; a getter gives None (or no value) for what was not sent."""

    values: Mapping[str, tuple[Any, ...]]

    def text(self, name: str) -> str | None:
        found: str | None = self._one(name)
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        return self.values.get(name, ())

    def needed(self, name: str) -> str:
        found = self.text(name)
        if found is None:
            raise InvalidInput(name, "this parameter is needed.")
        return found

    def flag(self, name: str) -> bool:
        """False when it was not sent."""
        return self._one(name) is True

    def number(self, name: str) -> int | None:
        found: int | None = self._one(name)
        return found

    def resource(self, name: str) -> Mapping[str, object] | None:
        found: Mapping[str, object] | None = self._one(name)
        return found

    def coding(self, name: str) -> Coding | None:
        found = self._one(name)
        return None if found is None else _coding(name, found)

    def codings(self, name: str) -> tuple[Coding, ...] | None:
        """Of a CodeableConcept."""
        found = self._one(name)
        if found is None:
            return None
        listed = found.get("coding", [])
        if not isinstance(listed, list):
            raise InvalidInput(name, "coding has to be an array.")
        return tuple(_coding(name, one) for one in listed)

    def _one(self, name: str) -> Any:
        found = self.values.get(name, ())
        return found[0] if found else None


def _coding(name: str, value: object) -> Coding:
    if not isinstance(value, dict):
        raise InvalidInput(name, "a Coding is an object.")
    system, code, version, display = (
        _part(name, value, part) for part in ("system", "code", "version", "display")
    )
    if code is None:
        raise InvalidInput(name, "a Coding without a code cannot be looked at.")
    return Coding(system, code, version, display)


def _part(name: str, coding: Mapping[str, object], part: str) -> str | None:
    found = coding.get(part)
    if found is None or (isinstance(found, str) and found):
        return found
    raise InvalidInput(name, f"{part} of a Coding is a text.")


def from_pairs(
    pairs: Iterable[tuple[str, str]], kinds: Mapping[str, Kind], repeating: Iterable[str] = ()
) -> Inputs:
    """From the decoded names and values of an address.

    Raises InvalidInput and UnsupportedInput, which name the parameter. An empty value was not sent.
    """
    sent = [
        (name, _from_text(name, value, _kind(name, kinds))) for name, value in pairs if _counts(name, value)
    ]
    return Inputs(_together(sent, repeating))


def from_parameters(
    resource: Mapping[str, object], kinds: Mapping[str, Kind], repeating: Iterable[str] = ()
) -> Inputs:
    """From a Parameters resource as parsed JSON; otherwise as ``from_pairs``."""
    if resource.get("resourceType") != "Parameters":
        raise InvalidInput("Parameters", "the body has to be a Parameters resource.")
    listed = resource.get("parameter", [])
    if not isinstance(listed, list):
        raise InvalidInput("parameter", "this has to be an array.")
    return Inputs(_together([_from_part(part, kinds) for part in listed], repeating))


def _counts(name: str, value: str) -> bool:
    return value != "" and name not in _PRESENTATION


def _kind(name: str, kinds: Mapping[str, Kind]) -> Kind:
    kind = kinds.get(name)
    if kind is None:
        raise UnsupportedInput(shown(name), "the operation has no such parameter.")
    if kind == "unsupported":
        raise UnsupportedInput(name, "this parameter is not supported here.")
    return kind


def _from_text(name: str, value: str, kind: Kind) -> Any:
    match kind:
        case "text" | "date" if _is_text(value):
            return value
        case "text" | "date":
            raise InvalidInput(name, "it holds a character that is no text.")
        case "boolean" if value in ("true", "false"):
            return value == "true"
        case "boolean":
            raise InvalidInput(name, "true or false is needed.")
        case "whole" if _NUMBER.fullmatch(value):
            return int(value)
        case "whole":
            raise InvalidInput(name, "a whole number, 0 or more, is needed.")
        case _:
            raise InvalidInput(
                name, "this does not fit into an address; send it by POST, in a Parameters resource."
            )


def _from_part(part: object, kinds: Mapping[str, Kind]) -> tuple[str, Any]:
    if not isinstance(part, dict) or not isinstance(part.get("name"), str):
        raise InvalidInput("parameter", "each has to be an object with a name.")
    name = part["name"]
    kind = _kind(name, kinds)
    found = [part[key] for key in _SENT_AS[kind] if key in part]
    others = [key for key in part if key.startswith("value") or key in ("resource", "part")]
    if len(found) != 1 or len(others) != 1 or not _IS[kind](found[0]):
        raise InvalidInput(name, f"one {_AS_WORDS.get(kind, kind)} is needed.")
    return name, found[0]


_AS_WORDS: Final[Mapping[Kind, str]] = {
    "text": "text",
    "boolean": "true or false",
    "whole": "whole number, 0 or more,",
}


def _is_text(value: str) -> bool:
    """Whether a string of FHIR may hold all its characters, and UTF-8 too."""
    return not any((ord(one) < 32 and one not in "\t\n\r") or 0xD800 <= ord(one) <= 0xDFFF for one in value)


def _is_resource(kind: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and value.get("resourceType") == kind


_IS: Final[Mapping[Kind, Callable[[Any], bool]]] = {
    "text": lambda value: isinstance(value, str) and value != "" and _is_text(value),
    "date": lambda value: isinstance(value, str) and value != "" and _is_text(value),
    "boolean": lambda value: isinstance(value, bool),
    "whole": lambda value: type(value) is int and 0 <= value < 1_000_000_000,
    "Coding": lambda value: isinstance(value, dict),
    "CodeableConcept": lambda value: isinstance(value, dict),
    "CodeSystem": _is_resource("CodeSystem"),
    "ValueSet": _is_resource("ValueSet"),
}


def _together(sent: Iterable[tuple[str, Any]], repeating: Iterable[str]) -> Mapping[str, tuple[Any, ...]]:
    may_repeat = frozenset(repeating)
    found: dict[str, tuple[Any, ...]] = {}
    for name, value in sent:
        if name in found and name not in may_repeat:
            raise InvalidInput(name, "this parameter stands once.")
        found[name] = (*found.get(name, ()), value)
    return found
