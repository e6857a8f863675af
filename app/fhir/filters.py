"""Filters of a value set over a code system's concepts, as tests of one concept (R4 filter-operator)."""

import re
from collections.abc import Callable
from typing import Final

from app.errors import InvalidDefinition, NotEnumerable, TooCostly
from app.fhir.concepts import CodeSystem, Concept
from app.fhir.nodes import shown
from app.fhir.valuesets import Filter

Test = Callable[[Concept], bool]

_ITSELF: Final = ("concept", "code")

# What is matched in time that grows with the square of the text at most: no groups, no alternatives, and no more than
# two places that may match more or less. A value set comes from anybody.
_CLASS = r"\[\^?(?:[^\[\]\\]|\\[dwsDWS.\-/\\])+\]"
_ATOM = rf"(?:[^\\\[\](){{}}|*+?^$.]|\.|\\[dwsDWS]|\\[^a-zA-Z0-9\s]|{_CLASS})"
_REPEATED = r"(?:[*+?]|\{[0-9]{1,2}(?:,[0-9]{0,2})?\})"
_PATTERN = re.compile(rf"(?:{_ATOM}(?:{_REPEATED})?)+")
_REPETITIONS = re.compile(rf"{_ATOM}({_REPEATED})?")
_SET_OPERATION = re.compile(r"--|&&|\|\||~~")
"""Reserved inside a class: what Python may come to read otherwise."""
_LONGEST_PATTERN = 100
_LONGEST_TEXT = 256


def test_of(one: Filter, system: CodeSystem) -> Test:
    """What a concept of ``system`` has to pass.

    Raises NotEnumerable for a property, an operator or a pattern that is not understood here, and for a concept that
    the code system does not have; InvalidDefinition for what R4 does not allow.
    """
    if one.op in ("is-a", "descendent-of", "is-not-a", "generalizes"):
        return _by_hierarchy(one, system)
    _check_known(one, system)
    match one.op:
        case "=":
            return lambda concept: one.value in _values(one, system, concept)
        case "in" | "not-in":
            wanted = {part.strip() for part in one.value.split(",")}
            return lambda concept: bool(wanted & _values(one, system, concept)) == (one.op == "in")
        case "exists" if one.value in ("true", "false"):
            return lambda concept: bool(_values(one, system, concept)) == (one.value == "true")
        case "regex":
            pattern = _pattern(one.value)
            return lambda concept: any(_matches(pattern, text) for text in _values(one, system, concept))
    raise InvalidDefinition("A filter has an operator, or a value for it, that R4 does not allow.")


def _by_hierarchy(one: Filter, system: CodeSystem) -> Test:
    named = system.concept(one.value)
    if one.property not in _ITSELF:
        raise NotEnumerable(f"The filter {shown(one.property)} {one.op} is not understood here.")
    if named is None:
        raise NotEnumerable(f"A filter names a concept that {shown(system.url)} does not have.")
    if one.op == "generalizes":
        found = system.ancestors(named.code) | {named.code}
    elif one.op == "descendent-of":
        found = system.descendants(named.code)
    else:
        found = system.descendants(named.code) | {named.code}
    if one.op == "is-not-a":
        return lambda concept: concept.code not in found
    return lambda concept: concept.code in found


def _check_known(one: Filter, system: CodeSystem) -> None:
    if (
        one.property not in (*_ITSELF, "display", "parent", "child", "inactive")
        and one.property not in system.properties
    ):
        raise NotEnumerable(
            f"{shown(system.url)} has no property {shown(one.property)} that a filter could look at."
        )


def _values(one: Filter, system: CodeSystem, concept: Concept) -> set[str]:
    match one.property:
        case "concept" | "code":
            return {concept.code}
        case "display":
            return {concept.display} if concept.display else set()
        case "parent":
            return set(concept.parents)
        case "child":
            return set(system.children.get(concept.code, ()))
        case "inactive":
            # R4's concept-properties give it a default: false.
            return {"true" if concept.is_inactive else "false"}
    found = (named.value for named in concept.properties if named.code == one.property)
    return {_text(value) for value in found}


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return str(value.get("code", ""))
    return str(value)


def _pattern(text: str) -> re.Pattern[str]:
    if len(text) > _LONGEST_PATTERN or not _PATTERN.fullmatch(text) or _SET_OPERATION.search(text):
        raise NotEnumerable("A filter has a regular expression that is more than is followed here.")
    if sum(repeated in ("*", "+", "?") or "," in repeated for repeated in _REPETITIONS.findall(text)) > 2:
        raise NotEnumerable("A filter has a regular expression that is more than is followed here.")
    try:
        return re.compile(text, re.ASCII | re.DOTALL)
    except re.error as error:
        raise InvalidDefinition("A filter has a regular expression that cannot be read.") from error


def _matches(pattern: re.Pattern[str], text: str) -> bool:
    if len(text) > _LONGEST_TEXT:
        raise TooCostly("A regular expression is not followed over texts as long as these.")
    return pattern.fullmatch(text) is not None
