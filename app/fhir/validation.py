"""R4's rules for a resource: structure, cardinality, formats, required codes, references, invariants.

Driven by ``definitions``. A type's checks are put together when an element of it is first met, and are closures
from then on; profiles, extensible bindings and the content of extensions are not looked at. What an issue says
names the element and the rule, never the value (ARCHITECTURE 3.8).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from app.errors import InvalidResource, Issue
from app.fhir import definitions
from app.fhir.definitions import RESOURCE_TYPES, Element, json_names, type_definition
from app.fhir.invariants import INVARIANTS
from app.fhir.narrative import narrative_fault
from app.fhir.primitives import PRIMITIVES, Test

MOST_ISSUES = 100

# Where a value stands: (where its parent stands, element name, index or None). The root has no parent.
Place = tuple[Any, str, int | None]
Check = Callable[[Any, Place, "_Report"], None]
Rule = Callable[[Any, dict[str, Any], Place, "_Report"], None]


def validate(resource: Any, *, expected_type: str | None = None) -> None:
    """Raises InvalidResource with up to ``MOST_ISSUES`` issues when ``resource`` breaks a rule of R4.

    ``resource`` is a parsed JSON object with decimals as Decimal and integers as int (``text.parse``). With
    ``expected_type`` another resourceType is refused too. Expressions are FHIRPath: ``Observation.component[1].code``.
    """
    report = _Report()
    try:
        _check_root(resource, expected_type, report)
    except _Enough:
        pass
    if report.issues:
        raise InvalidResource(report.issues)


class _Enough(Exception):
    """There are ``MOST_ISSUES`` issues: more help nobody."""


class _Report:
    __slots__ = ("issues", "local")

    def __init__(self) -> None:
        self.issues: list[Issue] = []
        self.local: list[tuple[Place, str]] = []
        """``#id`` references met since the last resource that is not contained began."""

    def add(self, code: str, place: Place, text: str) -> None:
        self.issues.append(Issue("error", code, text, _expression(place)))
        if len(self.issues) >= MOST_ISSUES:
            raise _Enough


def _expression(place: Place | None) -> str:
    parts: list[str] = []
    while place:
        place, name, index = place
        parts.append(name if index is None else f"{name}[{index}]")
    return ".".join(reversed(parts))


# Resources


def _check_root(resource: Any, expected_type: str | None, report: _Report) -> None:
    name = resource.get("resourceType") if isinstance(resource, dict) else None
    root: Place = (None, name if name in RESOURCE_TYPES else expected_type or "Resource", None)
    if expected_type is not None and name in RESOURCE_TYPES and name != expected_type:
        report.add("invalid", root, f"The resource's type is {name}, but here it has to be {expected_type}.")
    else:
        _check_resource(resource, root, report)


def _check_resource(resource: Any, place: Place, report: _Report) -> None:
    """A resource that stands on its own: the root, a Bundle entry, a Parameters part."""
    outer, report.local = report.local, []
    if check := _resource_check(resource, place, report):
        check(resource, place, report)
        _check_local_references(resource, report)
    report.local = outer


def _resource_check(resource: Any, place: Place, report: _Report) -> Check | None:
    if not isinstance(resource, dict):
        report.add("structure", place, "A resource has to be a JSON object.")
    elif "resourceType" not in resource:
        report.add("structure", place, "The resource has no resourceType.")
    elif resource["resourceType"] not in RESOURCE_TYPES:
        report.add("structure", place, "The resourceType is not one of FHIR R4. Types are case-sensitive.")
    else:
        return object_check(resource["resourceType"])
    return None


def _check_contained(resource: Any, place: Place, report: _Report) -> None:
    check = _resource_check(resource, place, report)
    if check is None:
        return
    check(resource, place, report)
    meta = resource.get("meta")
    if "contained" in resource:
        report.add("invariant", place, "A contained resource SHALL NOT contain resources (dom-2).")
    if isinstance(meta, dict) and ("versionId" in meta or "lastUpdated" in meta):
        report.add(
            "invariant", place, "A contained resource SHALL NOT have a versionId or lastUpdated (dom-4)."
        )
    if isinstance(meta, dict) and "security" in meta:
        report.add("invariant", place, "A contained resource SHALL NOT have a security label (dom-5).")


def _check_local_references(resource: dict[str, Any], report: _Report) -> None:
    """ref-1; ``#`` alone is the container itself."""
    if not report.local:
        return
    contained = resource.get("contained")
    known = (
        {item.get("id") for item in contained if isinstance(item, dict)}
        if isinstance(contained, list)
        else set()
    )
    for place, reference in report.local:
        if reference != "#" and reference[1:] not in known:
            report.add("invariant", place, "No contained resource has the id that is referred to (ref-1).")


# Objects


@cache
def object_check(type_name: str) -> Check:
    """The check of one JSON object of ``type_name``: a resource, a datatype or a nested type."""
    if type_name == "Resource":
        return _check_resource
    rules = _Rules(type_name)
    required = tuple(_required(type_name))
    invariants = INVARIANTS.get(type_name, ())
    is_resource = type_name in RESOURCE_TYPES
    is_reference = type_name == "Reference"

    def check(value: Any, place: Place, report: _Report) -> None:
        if value.__class__ is not dict:
            report.add("structure", place, f"A JSON object ({type_name}) is needed here.")
            return
        found = len(report.issues)
        for name, member in value.items():
            rules[name](member, value, place, report)
        for name, names in required:
            if name not in value and names.isdisjoint(value):
                report.add("required", (place, names.element, None), "This element is required.")
        if not is_resource and (not value or (len(value) == 1 and "id" in value)):
            report.add("invariant", place, "An element must have a value or children (ele-1).")
        if len(report.issues) > found:
            return
        if is_reference and value.get("reference", "")[:1] == "#":
            report.local.append((place, value["reference"]))
        for invariant in invariants:
            if not invariant.holds(value):
                report.add("invariant", place, f"{invariant.text} ({invariant.key}).")

    return check


class _Names(frozenset[str]):
    """Every JSON name under which an element can stand, companions included."""

    element: str


def _names(element: Element) -> _Names:
    plain = [element.name]
    if element.is_choice:
        plain = [element.name + kind[0].upper() + kind[1:] for kind in element.types]
    names = _Names([*plain, *("_" + name for name in plain)])
    names.element = element.name
    return names


def _required(type_name: str) -> Iterator[tuple[str, _Names]]:
    for element in type_definition(type_name).elements.values():
        if element.min > 0:
            yield element.name, _names(element)


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
        if element is None or not definitions.is_primitive(concrete) or concrete == "xhtml":
            return None
        return _guarded(name[1:], element, _companion_rule(name[1:], element))


def _accept(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
    """Looked at where the type was found by it."""


def _unknown(name: str) -> Rule:
    shown = (
        name if re.fullmatch(r"_?[A-Za-z][A-Za-z0-9]{0,63}", name, re.ASCII) and not name.isdigit() else None
    )

    def rule(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
        report.add("structure", (place, shown, None) if shown else place, "R4 knows no such element here.")

    return rule


def _member_rule(name: str, element: Element, concrete: str) -> Rule:
    if definitions.is_primitive(concrete):
        rule = _primitive_rule(name, element, concrete)
    elif concrete == "Resource" and element.name == "contained":
        rule = _contained_rule
    else:
        rule = _complex_rule(element, _element_check(element, concrete))
    return _guarded(name, element, rule)


def _guarded(name: str, element: Element, rule: Rule) -> Rule:
    """``rule``, and for a choice also that no second type stands beside (formats.html#choice)."""
    if not element.is_choice:
        return rule
    names = _names(element)

    def guarded(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
        rule(value, parent, place, report)
        present = [other for other in dict.fromkeys(n.lstrip("_") for n in parent if n in names)]
        if len(present) > 1 and name == present[1]:
            report.add("structure", (place, element.name, None), "Only one type of this choice can be given.")

    return guarded


def _complex_rule(element: Element, check: Check) -> Rule:
    name = element.name
    if element.repeats:

        def many(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
            if value.__class__ is not list or not value:
                report.add(
                    "structure", (place, name, None), "A JSON array with at least one item is needed here."
                )
                return
            for index, item in enumerate(value):
                check(item, (place, name, index), report)

        return many

    def one(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
        check(value, (place, name, None), report)

    return one


_CONTAINED_ELEMENT = type_definition("DomainResource").elements["contained"]


def _contained_rule(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
    found = len(report.issues)
    _complex_rule(_CONTAINED_ELEMENT, _check_contained)(value, parent, place, report)
    if len(report.issues) > found:
        return
    pointers = set(_local_pointers(parent))
    for index, item in enumerate(value):
        if not {"#", "#" + item.get("id", "")} & pointers and not _points_out(item):
            where = (place, "contained", index)
            report.add(
                "invariant", where, "A contained resource SHALL be referred to from its container (dom-3)."
            )


def _points_out(contained: dict[str, Any]) -> bool:
    """A contained resource may instead refer to its container."""
    return "#" in set(_local_pointers(contained))


def _local_pointers(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value[:1] == "#":
            yield value
    elif isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _local_pointers(child)


def _element_check(element: Element, concrete: str) -> Check:
    """The check of the type, and what the element adds to it: targets, or codes that are required."""
    check = object_check(concrete)
    if concrete == "Reference" and element.targets and "Resource" not in element.targets:
        return _with_targets(check, element.targets)
    if element.binding and concrete in ("CodeableConcept", "Coding"):
        return _with_codings(check, element.binding, concrete)
    return check


# A literal reference to a type: relative, absolute, with a version, or conditional.
_LITERAL = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://.*/)?([A-Z][A-Za-z]+)(?:/[A-Za-z0-9.-]{1,64}(?:/_history/.*)?|\?.*)"
)


def _with_targets(check: Check, targets: Sequence[str]) -> Check:
    allowed = frozenset(targets)
    matches = _LITERAL.fullmatch

    def checked(value: Any, place: Place, report: _Report) -> None:
        check(value, place, report)
        literal = value.get("reference") if value.__class__ is dict else None
        if literal.__class__ is str and (found := matches(literal)):
            target = found[1]
            if target not in allowed and target in RESOURCE_TYPES:
                names = ", ".join(sorted(allowed))
                report.add(
                    "structure", place, f"A reference to {target} is not allowed here, only to: {names}."
                )

    return checked


def _with_codings(check: Check, canonical: str, concrete: str) -> Check:
    """At least one coding from the value set (terminologies.html#required); none is needed beside an extension."""
    table = definitions.value_set(canonical)
    if table is None:
        return check

    def checked(value: Any, place: Place, report: _Report) -> None:
        found = len(report.issues)
        check(value, place, report)
        if len(report.issues) > found:
            return
        codings = value.get("coding", []) if concrete == "CodeableConcept" else [value]
        if (
            not any(c.get("code") in table.get(c.get("system", ""), ()) for c in codings)
            and "extension" not in value
        ):
            report.add("code-invalid", place, f"At least one coding has to be {_from_value_set(canonical)}.")

    return checked


def _from_value_set(canonical: str) -> str:
    names = sorted(definitions.codes(canonical) or ())
    listed = f": {', '.join(names)}" if len(names) <= 20 else ""
    return f"from the value set {canonical}{listed}"


# Primitives


def _primitive_rule(name: str, element: Element, concrete: str) -> Rule:
    accepts, form = PRIMITIVES[concrete].accepts, PRIMITIVES[concrete].form
    bound = definitions.codes(element.binding) if element.binding and concrete == "code" else None

    def refuse(value: Any, place: Place, report: _Report) -> None:
        if bound is not None and accepts(value):
            report.add("code-invalid", place, f"The code is not {_from_value_set(element.binding or '')}.")
        else:
            code = "structure" if isinstance(value, dict | list) or value is None else "value"
            report.add(code, place, f"This is not {form}.")

    passes = _in(bound) if bound is not None else accepts
    if concrete == "xhtml":
        return _narrative_rule
    if element.repeats:
        return _many_primitives(name, element.name, passes, refuse)

    def one(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
        if not passes(value):
            refuse(value, (place, element.name, None), report)

    return one


def _in(codes: frozenset[str]) -> Test:
    def passes(value: Any) -> bool:
        return value.__class__ is str and value in codes

    return passes


def _many_primitives(json_name: str, name: str, passes: Test, refuse: Check) -> Rule:
    companion_name = "_" + json_name

    def many(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
        if value.__class__ is not list or not value:
            report.add(
                "structure", (place, name, None), "A JSON array with at least one item is needed here."
            )
            return
        for index, item in enumerate(value):
            if item is None and _item(parent.get(companion_name), index) is not None:
                continue
            if not passes(item):
                refuse(item, (place, name, index), report)

    return many


def _item(items: Any, index: int) -> Any:
    return items[index] if isinstance(items, list) and index < len(items) else None


def _narrative_rule(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
    where = (place, "div", None)
    if not PRIMITIVES["xhtml"].accepts(value):
        report.add("value", where, f"This is not {PRIMITIVES['xhtml'].form}.")
    elif fault := narrative_fault(value):
        report.add("invalid", where, f"The narrative is refused: {fault}.")


def _companion_rule(json_name: str, element: Element) -> Rule:
    """``_name``: id and extensions of a primitive, in an array aligned by nulls (json.html#primitive)."""
    check = object_check("Element")
    name = element.name

    def one(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
        check(value, (place, name, None), report)

    def many(value: Any, parent: dict[str, Any], place: Place, report: _Report) -> None:
        values = parent.get(json_name)
        if value.__class__ is not list or not value:
            report.add(
                "structure", (place, name, None), "A JSON array with at least one item is needed here."
            )
            return
        if isinstance(values, list) and len(value) > len(values):
            report.add("structure", (place, name, None), f"_{json_name} has more items than {json_name}.")
        for index, item in enumerate(value):
            if item is not None or _item(values, index) is None:
                check(item, (place, name, index), report)

    return many if element.repeats else one
