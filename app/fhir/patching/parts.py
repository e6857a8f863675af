"""The parts of a Parameters resource (R4 parameters.html), their values still in the text they came in."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import MalformedPatch
from app.fhir.definitions import RESOURCE_TYPES, is_primitive, json_names
from app.fhir.patching.document import Array, Object, Scalar, Value
from app.fhir.patching.elements import NOTHING, Content


@dataclass(frozen=True, slots=True)
class Part:
    """A parameter, or a part of one."""

    name: str
    expression: str
    """Where it stands in the patch."""
    type: str | None
    """FHIR type of its value or resource; None when it has parts instead."""
    content: Content = NOTHING
    parts: tuple["Part", ...] = ()


def parameters_of(resource: Value) -> list[Part]:
    """The parameters of a Parameters resource, in order. Raises MalformedPatch for any other JSON."""
    kind = resource.get("resourceType") if isinstance(resource, Object) else None
    if not isinstance(resource, Object) or not isinstance(kind, Scalar) or kind.value != "Parameters":
        raise MalformedPatch("A FHIRPath Patch is a Parameters resource.")
    parameters = resource.get("parameter")
    return [] if parameters is None else list(_parts(parameters, "Parameters.parameter"))


def _parts(array: Value, path: str) -> Iterator[Part]:
    if not isinstance(array, Array) or not len(array):
        raise MalformedPatch("A JSON array with at least one item is needed here.", expression=path)
    for index, item in enumerate(array):
        expression = f"{path}[{index}]"
        if not isinstance(item, Object):
            raise MalformedPatch("A JSON object is needed here.", expression=expression)
        yield _part(item, expression)


def _part(item: Object, expression: str) -> Part:
    name = item.get("name")
    plain = name.value if isinstance(name, Scalar) else None
    if not isinstance(plain, str):
        raise MalformedPatch("A parameter or part needs a name.", expression=expression)
    # Extensions may be there and say nothing about the patch; a modifierExtension would have to be understood.
    members = {member.removeprefix("_") for member in item.names()} - {"name", "id", "extension"}
    if len(members) != 1:
        raise MalformedPatch(
            "A parameter or part has exactly one of a value, a resource and parts (inv-1).",
            expression=expression,
        )
    [member] = members
    return _read(item, member, plain, expression)


def _read(item: Object, member: str, name: str, expression: str) -> Part:
    value, companion = item.get(member), item.get(f"_{member}")
    if member == "part" and value is not None:
        return Part(name, expression, None, parts=tuple(_parts(value, f"{expression}.part")))
    if member == "resource" and value is not None:
        return Part(name, expression, _resource_type(value, expression), Content(value))
    element, kind = json_names("Parameters.parameter").get(member, (None, ""))
    if element is None or element.name != "value" or (companion is not None and not is_primitive(kind)):
        raise MalformedPatch("R4 has no such member in a parameter or part.", expression=expression)
    return Part(name, expression, kind, Content(value, companion))


def _resource_type(resource: Value, expression: str) -> str:
    kind = resource.get("resourceType") if isinstance(resource, Object) else None
    plain = kind.value if isinstance(kind, Scalar) else None
    if not isinstance(plain, str) or plain not in RESOURCE_TYPES:
        raise MalformedPatch("A resource needs a resourceType of FHIR R4.", expression=expression)
    return plain
