"""The door to fhirpathpy: a profile's invariants, evaluated (R4 fhirpath, elementdefinition constraint).

For $validate only, and imported when the first invariant is met. What the engine cannot evaluate is said not
to have been checked. It is not asked for the time: an invariant with ``now()`` or ``today()`` is not checked.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from app.fhir.invariants import INVARIANTS
from app.fhir.profiles.elements import Constraint, Node
from app.fhir.profiles.items import Item
from app.fhir.profiles.scene import Scene
from app.fhir.profiles.verdict import Severity

Check = Callable[[Item, Scene], None]

CHECKED_ANYWAY = frozenset(
    {
        *(invariant.key for invariants in INVARIANTS.values() for invariant in invariants),
        *("ele-1", "dom-2", "dom-3", "dom-4", "dom-5", "ref-1", "txt-1", "txt-2"),
    }
)
"""Keys of R4's own invariants that the base check knows by heart."""

_MEANT = {
    "operator = 'exists' implies (answer is Boolean)": "operator = 'exists' implies (answer is boolean)",
    "probability is decimal implies (probability as decimal) <= 100": (
        "probability.empty() or (probability is decimal implies (probability as decimal) <= 100)"
    ),
}
"""R4's own expressions that its own examples break, as they are meant (que-7, ras-2)."""


def constraint_checks(node: Node) -> Iterator[Check]:
    """Checks for the node's invariants, without those that the base check has."""
    for constraint in node.constraints:
        if constraint.key not in CHECKED_ANYWAY:
            yield _holding(constraint)


def _holding(constraint: Constraint) -> Check:
    severity: Severity = "error" if constraint.severity == "error" else "warning"
    text = f"{constraint.human.rstrip('. ')} ({constraint.key})."

    def check(item: Item, scene: Scene) -> None:
        if not scene.invariants:
            return
        answer = holds(constraint.expression, item, scene)
        if answer is False:
            scene.verdict.say(severity, "invariant", item.place, text)
        elif answer is None and constraint not in scene.said:
            scene.said.add(constraint)
            scene.verdict.information("not-supported", item.place, f"Not checked: {text}")

    return check


def holds(
    expression: str | None,
    item: Item,
    scene: Scene,
    variables: Mapping[str, tuple[Any, str]] | None = None,
) -> bool | None:
    """Whether the expression is true of the item; None when that cannot be told. An empty answer is not true.

    ``variables`` are further environment variables: name → (value, FHIR type).
    """
    expression = _MEANT.get(expression or "", expression or "")
    tree = _parsed(expression)
    if tree is None:
        return None
    # The engine sees a primitive that has extensions twice, once for each. Only who asks for extensions gets them.
    plain = "xtension" not in expression
    shown: Callable[[Any], Any] = without_companions if plain else _as_it_is
    try:
        answer = _evaluated(tree, item, scene, shown, _variables(expression, scene, variables or {}))
    except Exception:  # noqa: BLE001 -- the engine raises bare Exceptions for whatever it cannot do
        return None
    return answer if plain or answer or not has_companions(scene.resource) else None


def has_companions(value: Any) -> bool:
    """Whether some primitive has both a value and an id or extensions."""
    if isinstance(value, dict):
        return any(map(value.__contains__, (name[1:] for name in value if name[:1] == "_"))) or any(
            map(has_companions, value.values())
        )
    return isinstance(value, list) and any(map(has_companions, value))


def without_companions(value: Any) -> Any:
    """The same without the ids and extensions of primitives that have a value."""
    if isinstance(value, dict):
        return {
            name: without_companions(member)
            for name, member in value.items()
            if not (name[:1] == "_" and name[1:] in value)
        }
    return [without_companions(one) for one in value] if isinstance(value, list) else value


def _as_it_is(value: Any) -> Any:
    return value


# The engine.


@dataclass(frozen=True, slots=True)
class _Engine:
    apply: Any
    node: Any
    start: Any
    parse: Any
    model: Any


@cache
def _engine() -> _Engine:
    from fhirpathpy import apply_parsed_path
    from fhirpathpy.engine.nodes import ResourceNode, TypeInfo
    from fhirpathpy.models import models
    from fhirpathpy.parser import parse

    class Start(ResourceNode):
        """A value that is asked for its own type by name: ``Patient.name`` of a Patient, and so for datatypes."""

        def __getitem__(self, name: str) -> Any:
            return self.path if name == "resourceType" else self.data[name]

    types: Any = TypeInfo
    types.model = models["r4"]  # which it does itself only when it first meets ``is``
    return _Engine(apply_parsed_path, ResourceNode, Start, parse, models["r4"])


@lru_cache(maxsize=4_096)
def _parsed(expression: str) -> Any:
    """The expression's tree; None when it is not FHIRPath."""
    try:
        return _engine().parse(expression) if expression else None
    except Exception:  # noqa: BLE001 -- as above
        return None


def _variables(
    expression: str, scene: Scene, further: Mapping[str, tuple[Any, str]]
) -> dict[str, tuple[Any, str]]:
    """Those that the expression names: the container may be a large Bundle."""
    all_of_them = {"resource": (scene.resource, ""), "rootResource": (scene.container, ""), **further}
    return {name: found for name, found in all_of_them.items() if f"%{name}" in expression}


def _evaluated(
    tree: Any,
    item: Item,
    scene: Scene,
    shown: Callable[[Any], Any],
    variables: Mapping[str, tuple[Any, str]],
) -> bool:
    engine = _engine()
    start = engine.start(shown(item.value if item.value is not None else item.companion), item.kind or None)
    context = {name: engine.node(shown(value), kind or None) for name, (value, kind) in variables.items()}
    options = {"userInvocationTable": _functions(scene), "traceFn": _silently}
    found = engine.apply(start, tree, {**context, "context": start}, engine.model, options)
    # One value that is not a boolean is true (FHIRPath, singleton evaluation of collections).
    return len(found) == 1 and found[0] is not False


def _silently(label: str, found: list[Any]) -> None:
    """``trace()`` is for an expression's author."""


class _NotEvaluatedError(Exception):
    """The expression asks for what is not here."""


def _functions(scene: Scene) -> dict[str, Any]:
    """FHIR's own functions, which the engine leaves to its caller, and those that it must not have."""
    plain: dict[str, Callable[[list[Any]], list[Any]]] = {
        "resolve": lambda references: [_resolved(reference, scene) for reference in references],
        "hasValue": _has_value,
        "htmlChecks": lambda _: [True],  # the base check reads the narrative
        "now": _not_evaluated,
        "today": _not_evaluated,
        "timeOfDay": _not_evaluated,
    }
    functions: dict[str, Any] = {name: {"fn": fn, "arity": {0: []}} for name, fn in plain.items()}
    functions["memberOf"] = {
        "fn": lambda coded, value_set: _member_of(coded, value_set, scene),
        "arity": {1: ["String"]},
    }
    return functions


def _not_evaluated(_: list[Any]) -> list[Any]:
    raise _NotEvaluatedError


def _resolved(reference: Any, scene: Scene) -> Any:
    """A target that is not here cannot be looked into."""
    found = scene.find({"reference": reference} if isinstance(reference, str) else reference)
    if found is None:
        raise _NotEvaluatedError
    return _engine().node(found, None)


def _has_value(values: list[Any]) -> list[bool]:
    return [len(values) == 1 and values[0] is not None and not isinstance(values[0], dict | list)]


def _member_of(coded: list[Any], value_set: str, scene: Scene) -> list[bool]:
    codes = scene.codes(value_set.partition("|")[0])
    if codes is None or len(coded) != 1:
        raise _NotEvaluatedError
    value = coded[0]
    if isinstance(value, str):
        return [any(value == code for _, code in codes)]
    return [any((one.get("system", ""), one.get("code")) in codes for one in value.get("coding", [value]))]
