"""FHIRPath Patch (R4 fhirpatch.html) on a resource's text: the operations of a Parameters resource."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.errors import MalformedPatch
from app.fhir.definitions import RESOURCE_TYPES, Element, is_primitive, json_names, specialises
from app.fhir.expressions import ExpressionError, Node, read
from app.fhir.patching.document import MOST_OPERATIONS, Document, Object, RefusedError, Scalar
from app.fhir.patching.elements import Content, Members, element_of, member_name, written
from app.fhir.patching.parts import Part, parameters_of
from app.fhir.patching.paths import Finder
from app.fhir.text import Parsed


def apply_fhirpath_patch(text: str, parameters: Parsed) -> str:
    """``text`` after every operation of ``parameters``; or nothing of it.

    Every byte that no operation touches stays, and so does every byte of the values that the patch brings. An element
    that a ``delete`` leaves without value or children goes with it. ``text`` is one that ``text.parse`` accepted, and
    so is the answer; the types of values are checked here, the rest of R4's rules are for the caller to see. Raises
    MalformedPatch for what is no FHIRPath Patch, UnprocessablePatch when an operation cannot be applied, BusinessRule
    for another type or id, TooCostly.
    """
    document = Document(text, parameters.text)
    operations = list(_operations(parameters_of(document.value(parameters.text))))
    for number, (part, name, change) in enumerate(operations, 1):
        with document.operation(number, of=len(operations), name=name, expression=part.expression):
            change(document)
    return document.finished()


# Reading. All of it before anything is applied, so that what is malformed is called so.

_Change = Callable[[Document], object]


def _operations(parameters: Sequence[Part]) -> Iterator[tuple[Part, str, _Change]]:
    """Where each operation stands, its type, and what it does."""
    if len(parameters) > MOST_OPERATIONS:
        raise MalformedPatch(f"A patch may have {MOST_OPERATIONS} operations; this one has more.")
    for number, parameter in enumerate(parameters, 1):
        try:
            yield parameter, *_operation(parameter)
        except _MalformedError as error:
            raise MalformedPatch(
                f"Operation {number} of {len(parameters)} is malformed: {error}",
                expression=error.part.expression,
            ) from error


class _MalformedError(Exception):
    """One operation is not of R4's form; the text says why."""

    def __init__(self, part: Part, reason: str) -> None:
        super().__init__(reason)
        self.part = part


@dataclass(frozen=True, slots=True)
class _Given:
    """The parts of one operation, by name."""

    whole: Part
    parts: Mapping[str, Part]

    def plain(self, name: str, kind: str) -> Any:
        """The value of a part that has to be a ``kind``."""
        part = self.part(name)
        value = part.content.value.value if isinstance(part.content.value, Scalar) else None
        if part.type != kind or not isinstance(value, int if kind == "integer" else str) or value is True:
            raise _MalformedError(part, f"{name} has to be {_called(kind)}.")
        return value

    def part(self, name: str) -> Part:
        if name not in self.parts:
            raise _MalformedError(self.whole, f"it needs a part called {name}.")
        return self.parts[name]

    def path(self) -> Node:
        try:
            return read(self.plain("path", "string"))
        except ExpressionError as error:
            raise _MalformedError(
                self.part("path"), "its path is not of the FHIRPath that this service understands."
            ) from error


def _operation(parameter: Part) -> tuple[str, _Change]:
    if parameter.name != "operation" or parameter.type is not None:
        raise _MalformedError(parameter, "every parameter has to be called operation and have parts.")
    given = _Given(parameter, {part.name: part for part in parameter.parts})
    kind = given.plain("type", "code")
    if kind not in _READERS:
        raise _MalformedError(given.part("type"), f"type has to be one of {', '.join(_READERS)}.")
    names, reader = _READERS[kind]
    for part in parameter.parts:
        if part.name not in ("type", *names):
            raise _MalformedError(part, f"the parts of {kind} are type, {', '.join(names)}.")
        if given.parts[part.name] is not part:
            raise _MalformedError(part, f"{part.name} is there twice.")
    return kind, reader(given)


def _adding(given: _Given) -> _Change:
    path, name, value = given.path(), given.plain("name", "string"), given.part("value")
    return lambda document: _add(Finder(document), path, name, value)


def _inserting(given: _Given) -> _Change:
    path, index, value = given.path(), given.plain("index", "integer"), given.part("value")
    return lambda document: _insert(Finder(document), path, index, value)


def _deleting(given: _Given) -> _Change:
    path = given.path()
    return lambda document: _delete(Finder(document), path)


def _replacing(given: _Given) -> _Change:
    path, value = given.path(), given.part("value")
    return lambda document: _replace(Finder(document), path, value)


def _moving(given: _Given) -> _Change:
    path, source, destination = (
        given.path(),
        given.plain("source", "integer"),
        given.plain("destination", "integer"),
    )
    return lambda document: _move(Finder(document), path, source, destination)


_READERS: Final[Mapping[str, tuple[Sequence[str], Callable[[_Given], _Change]]]] = {
    "add": (("path", "name", "value"), _adding),
    "insert": (("path", "index", "value"), _inserting),
    "delete": (("path",), _deleting),
    "replace": (("path", "value"), _replacing),
    "move": (("path", "source", "destination"), _moving),
}


# Applying.


def _add(finder: Finder, path: Node, name: str, value: Part) -> None:
    """To the element at ``path``, behind what is there of an element that repeats."""
    place = finder.single(path)
    element = element_of(place.type, name)
    _add_to(place.opened(), place.type, element, value)


def _insert(finder: Finder, path: Node, index: int, value: Part) -> None:
    element, members = finder.repetitions(path)
    if not 0 <= index <= len(members):
        raise RefusedError(f"its index may be 0 to {len(members)}.")
    _, content = _fitted(value, element, members.holder)
    members.insert(index, content)


def _delete(finder: Finder, path: Node) -> None:
    """Nothing to delete is no error; several elements are one."""
    found = finder.find(path)
    if len(found) > 1:
        raise RefusedError(f"its path finds {len(found)} elements, and only one can be deleted.")
    for place in found:
        place.delete()


def _replace(finder: Finder, path: Node, value: Part) -> None:
    """The whole element, its id and extensions too."""
    place = finder.single(path)
    if place.element is None or place.members is None:
        raise RefusedError("the whole resource cannot be replaced.")
    kind, content = _fitted(value, place.element, place.members.holder)
    if place.index is None:
        name = member_name(place.element, kind)
        place.members.renamed(name, is_primitive=is_primitive(kind)).put(content)
    else:
        place.members.replace(place.index, content)


def _move(finder: Finder, path: Node, source: int, destination: int) -> None:
    _, members = finder.repetitions(path)
    if not (0 <= source < len(members) and 0 <= destination < len(members)):
        raise RefusedError(f"its source and destination may be 0 to {len(members) - 1}.")
    if source != destination:
        members.move(source, destination)


def _add_to(holder: Object, type_name: str, element: Element, value: Part) -> None:
    kind, content = _fitted(value, element, holder)
    members = Members(holder, member_name(element, kind), is_primitive(kind))
    if element.repeats:
        members.insert(len(members), content)
    elif any(present.are_there() for _, present in written(holder, element)):
        raise RefusedError(f"the element {element.name} of {type_name} is there already.")
    else:
        members.put(content)


def _fitted(value: Part, element: Element, holder: Object) -> tuple[str, Content]:
    """The type that ``value`` is of there, and what is written. Servers SHALL return an error if the type is wrong."""
    wanted = element.path_type or element.types[0]
    if element.is_choice and value.type in element.types:
        return value.type, value.content
    if element.is_choice:
        raise RefusedError(f"the element {element.name} may not be {_called(value.type)}.")
    if value.type is None and wanted[0].isupper() and wanted != "Resource":
        return wanted, Content(_built(value, wanted, holder))
    if value.type is not None and (
        specialises(value.type, wanted) or (value.type, wanted) == ("string", "xhtml")
    ):
        return wanted, value.content
    raise RefusedError(
        f"the element {element.name} has to be {_called(wanted)} and not {_called(value.type)}."
    )


def _built(value: Part, type_name: str, holder: Object) -> Object:
    """An object of the parts of ``value``, each an element of the type (fhirpatch.html#anonymous)."""
    built = Object("{}", holder.meter)
    for part in value.parts:
        _add_to(built, type_name, element_of(type_name, part.name), part)
    return built


def _called(kind: str | None) -> str:
    """A type as a patch brings it: ``valueHumanName``; others as parts."""
    if kind == "Resource" or kind in RESOURCE_TYPES:
        return "a resource"
    member = f"value{kind[0].upper()}{kind[1:]}" if kind else ""
    return f"a {member}" if member in json_names("Parameters.parameter") else "parts"
