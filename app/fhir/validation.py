"""R4's rules for a resource: structure, cardinality, formats, required codes, references, invariants.

Driven by ``definitions``. A type's checks are put together when an element of it is first met, and are
closures from then on. Profiles and extensible bindings are not looked at. An issue names the element and the
rule, never the value (ARCHITECTURE 3.8).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

from app.errors import InvalidResource
from app.fhir import definitions
from app.fhir.constraints import Check, constrained, from_value_set
from app.fhir.definitions import RESOURCE_TYPES, Element, is_primitive, json_names, type_definition
from app.fhir.findings import EnoughError, Findings, Place
from app.fhir.invariants import INVARIANTS
from app.fhir.narrative import narrative_fault
from app.fhir.primitives import PRIMITIVES, Test

Rule = Callable[[Any, dict[str, Any], Place, Findings], None]

_EMPTY = "An element must have a value or children (ele-1)."
_AN_ARRAY = "A JSON array with at least one item is needed here."


def validate(resource: Any, *, expected_type: str | None = None) -> None:
    """Raises InvalidResource with up to ``MOST_ISSUES`` issues when ``resource`` breaks a rule of R4.

    ``resource`` is a parsed JSON object with decimals as Decimal and integers as int (``text.parse``). With
    ``expected_type`` another resourceType is refused too. Expressions are FHIRPath of R4's simple kind:
    ``Observation.component[1].code``, and ``Observation.value`` for a choice.
    """
    findings = Findings()
    with suppress(EnoughError):
        _check_root(resource, expected_type, findings)
    if findings.issues:
        raise InvalidResource(findings.issues)


# Resources


def _check_root(resource: Any, expected_type: str | None, findings: Findings) -> None:
    name = _type_of(resource)
    root: Place = (None, name or expected_type or "Resource", None)
    if expected_type is not None and name not in (None, expected_type):
        findings.add(
            "invalid", root, f"The resource's type is {name}, but here it has to be {expected_type}."
        )
    else:
        _check_resource(resource, root, findings)


def _type_of(resource: Any) -> str | None:
    """The resourceType when it is one of R4's."""
    name = resource.get("resourceType") if isinstance(resource, dict) else None
    return name if isinstance(name, str) and name in RESOURCE_TYPES else None


def _check_resource(resource: Any, place: Place, findings: Findings) -> None:
    """A resource that stands on its own: the root, a Bundle entry, a Parameters part."""
    outer, findings.local = findings.local, []
    if check := _resource_check(resource, place, findings):
        check(resource, place, findings)
        _check_local_references(resource, findings)
    findings.local = outer


def _resource_check(resource: Any, place: Place, findings: Findings) -> Check | None:
    if not isinstance(resource, dict):
        findings.add("structure", place, "A resource has to be a JSON object.")
    elif "resourceType" not in resource:
        findings.add("structure", place, "The resource has no resourceType.")
    elif name := _type_of(resource):
        return object_check(name)
    else:
        findings.add("structure", place, "The resourceType is not one of FHIR R4. Types are case-sensitive.")
    return None


def _check_contained(resource: Any, place: Place, findings: Findings) -> None:
    check = _resource_check(resource, place, findings)
    if check is None:
        return
    check(resource, place, findings)
    meta = resource.get("meta")
    if "contained" in resource:
        findings.add("invariant", place, "A contained resource SHALL NOT contain resources (dom-2).")
    if isinstance(meta, dict) and ("versionId" in meta or "lastUpdated" in meta):
        findings.add(
            "invariant", place, "A contained resource SHALL NOT have a versionId or lastUpdated (dom-4)."
        )
    if isinstance(meta, dict) and "security" in meta:
        findings.add("invariant", place, "A contained resource SHALL NOT have a security label (dom-5).")


def _check_local_references(resource: dict[str, Any], findings: Findings) -> None:
    """ref-1; ``#`` alone is the container itself."""
    if not findings.local:
        return
    contained = resource.get("contained")
    items = contained if isinstance(contained, list) else []
    known = [item.get("id") for item in items if isinstance(item, dict)]
    for place, reference in findings.local:
        if reference != "#" and reference[1:] not in known:
            findings.add("invariant", place, "No contained resource has the id that is referred to (ref-1).")


# Objects


@cache
def object_check(type_name: str) -> Check:
    """The check of one JSON object of ``type_name``: a resource, a datatype or a nested type."""
    if type_name == "Resource":
        return _check_resource
    rules = _Rules(type_name)
    required = tuple(_required(type_name))
    invariants = INVARIANTS.get(type_name, ())
    is_whole_element = type_name not in RESOURCE_TYPES and type_name != "Element"
    is_reference = type_name == "Reference"

    def check(value: Any, place: Place, findings: Findings) -> None:
        if value.__class__ is not dict:
            findings.add("structure", place, f"A JSON object ({type_name}) is needed here.")
            return
        before = len(findings.issues)
        for name, member in value.items():
            rules[name](member, value, place, findings)
        for name, names in required:
            if name not in value and names.isdisjoint(value):
                findings.add("required", (place, name, None), "This element is required.")
        if is_whole_element and (not value or (len(value) == 1 and "id" in value)):
            findings.add("invariant", place, _EMPTY)
        if len(findings.issues) > before:
            return
        if is_reference and value.get("reference", "")[:1] == "#":
            findings.local.append((place, value["reference"]))
        for invariant in invariants:
            if not invariant.holds(value):
                findings.add("invariant", place, f"{invariant.text} ({invariant.key}).")

    return check


def _required(type_name: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Element name, and the JSON names of which one has to be there."""
    for element in type_definition(type_name).elements.values():
        if element.min > 0:
            yield element.name, _names(element)


def _names(element: Element) -> frozenset[str]:
    """Every JSON name under which an element can stand, companions included."""
    plain = [element.name]
    if element.is_choice:
        plain = [element.name + kind[0].upper() + kind[1:] for kind in element.types]
    return frozenset([*plain, *("_" + name for name in plain)])


# Members


class _Rules(dict[str, Rule]):
    """JSON member → rule, made when the member is first met. Names that R4 does not know are not kept."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        self.names = json_names(type_name)

    def __missing__(self, name: str) -> Rule:
        rule = self._made(name)
        if rule is None:
            return _unknown(name)
        self[name] = rule
        return rule

    def _made(self, name: str) -> Rule | None:
        if name == "resourceType" and self.type_name in RESOURCE_TYPES:
            return _accept
        if name in self.names:
            return _member_rule(name, *self.names[name])
        element, concrete = self.names.get(name[1:], (None, "")) if name[:1] == "_" else (None, "")
        # An id and a div have no extensions: in XML they are an attribute and XHTML.
        if element is None or element.name == "id" or not is_primitive(concrete) or concrete == "xhtml":
            return None
        return _guarded(name[1:], element, _companion_rule(name[1:], element))


def _accept(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
    """Looked at where the type was found by it."""


def _unknown(name: str) -> Rule:
    shown = name if re.fullmatch(r"_?[A-Za-z][A-Za-z0-9]{0,63}", name, re.ASCII) else None

    def rule(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
        findings.add("structure", (place, shown, None) if shown else place, "R4 knows no such element here.")

    return rule


def _member_rule(name: str, element: Element, concrete: str) -> Rule:
    if is_primitive(concrete):
        rule = _primitive_rule(name, element, concrete)
    elif concrete == "Resource" and element.name == "contained":
        rule = _contained_rule
    else:
        rule = _complex_rule(element, constrained(object_check(concrete), element, concrete))
    return _guarded(name, element, rule)


def _guarded(name: str, element: Element, rule: Rule) -> Rule:
    """``rule``, and for a choice also that no second type stands beside (formats.html#choice)."""
    if not element.is_choice:
        return rule
    names = _names(element)

    def guarded(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
        rule(value, parent, place, findings)
        present = list(dict.fromkeys(other.lstrip("_") for other in parent if other in names))
        if len(present) > 1 and name == present[1]:
            findings.add(
                "structure", (place, element.name, None), "Only one type of this choice can be given."
            )

    return guarded


def _complex_rule(element: Element, check: Check) -> Rule:
    name = element.name
    if element.repeats:

        def many(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
            if value.__class__ is not list or not value:
                findings.add("structure", (place, name, None), _AN_ARRAY)
                return
            for index, item in enumerate(value):
                check(item, (place, name, index), findings)

        return many

    def one(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
        check(value, (place, name, None), findings)

    return one


_CONTAINED_ELEMENT = type_definition("DomainResource").elements["contained"]


def _contained_rule(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
    before = len(findings.issues)
    _complex_rule(_CONTAINED_ELEMENT, _check_contained)(value, parent, place, findings)
    if len(findings.issues) > before:
        return
    pointers = set(_local_pointers(parent))
    for index, item in enumerate(value):
        # A contained resource may instead refer to its container, by "#".
        if not {"#", "#" + item.get("id", "")} & pointers:
            where = (place, "contained", index)
            text = "A contained resource SHALL be referred to from its container (dom-3)."
            findings.add("invariant", where, text)


def _local_pointers(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value[:1] == "#":
            yield value
    elif isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _local_pointers(child)


# Primitives


def _primitive_rule(name: str, element: Element, concrete: str) -> Rule:
    accepts, form = PRIMITIVES[concrete].accepts, PRIMITIVES[concrete].form
    bound = definitions.codes(element.binding) if element.binding and concrete == "code" else None

    def refuse(value: Any, place: Place, findings: Findings) -> None:
        if bound is not None and accepts(value):
            findings.add("code-invalid", place, f"The code is not {from_value_set(element.binding or '')}.")
        else:
            code = "structure" if isinstance(value, dict | list) or value is None else "value"
            findings.add(code, place, f"This is not {form}.")

    passes = _in(bound) if bound is not None else accepts
    if concrete == "xhtml":
        return _narrative_rule
    if element.repeats:
        return _many_primitives(name, element.name, passes, refuse)

    def one(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
        if not passes(value):
            refuse(value, (place, element.name, None), findings)

    return one


def _in(codes: frozenset[str]) -> Test:
    def passes(value: Any) -> bool:
        return value.__class__ is str and value in codes

    return passes


def _many_primitives(json_name: str, name: str, passes: Test, refuse: Check) -> Rule:
    companion_name = "_" + json_name

    def many(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
        if value.__class__ is not list or not value:
            findings.add("structure", (place, name, None), _AN_ARRAY)
            return
        for index, item in enumerate(value):
            if item is None and _item(parent.get(companion_name), index) is not None:
                continue
            if not passes(item):
                refuse(item, (place, name, index), findings)

    return many


def _item(items: Any, index: int) -> Any:
    return items[index] if isinstance(items, list) and index < len(items) else None


def _narrative_rule(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
    where = (place, "div", None)
    if not PRIMITIVES["xhtml"].accepts(value):
        findings.add("value", where, f"This is not {PRIMITIVES['xhtml'].form}.")
    elif fault := narrative_fault(value):
        findings.add("invalid", where, f"The narrative is refused: {fault}.")


def _companion_rule(json_name: str, element: Element) -> Rule:
    """``_name``: id and extensions of a primitive, in an array aligned by nulls (json.html#primitive)."""
    name = element.name

    def one(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
        _check_companion(value, parent.get(json_name), (place, name, None), findings)

    def many(value: Any, parent: dict[str, Any], place: Place, findings: Findings) -> None:
        values = parent.get(json_name)
        if value.__class__ is not list or not value:
            findings.add("structure", (place, name, None), _AN_ARRAY)
            return
        if isinstance(values, list) and len(value) > len(values):
            findings.add("structure", (place, name, None), f"_{json_name} has more items than {json_name}.")
        for index, item in enumerate(value):
            beside = _item(values, index)
            if item is not None or beside is None:
                _check_companion(item, beside, (place, name, index), findings)

    return many if element.repeats else one


def _check_companion(value: Any, beside: Any, place: Place, findings: Findings) -> None:
    """``value`` stands for the id and extensions of the primitive ``beside``, which may be absent."""
    object_check("Element")(value, place, findings)
    if isinstance(value, dict) and "extension" not in value and (beside is None or not value):
        findings.add("invariant", place, _EMPTY)
