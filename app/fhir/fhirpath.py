"""FHIRPath as R4's search parameters use it, compiled once into closures over parsed JSON.

The subset (FHIRPath 1.0 normative): paths, ``|``, ``as`` in both forms, ``is``, ``[n]``, ``where(…)``,
``exists()``, ``resolve() is Type``, ``=``, ``!=``, ``and``, literals and ``%resource``. Anything else is an
ExpressionError when it is compiled, never a wrong answer later.

R4's elements are known, so an expression is flattened into linear selectors, one for each JSON property that a
choice may have: ``Observation.value`` becomes ``valueQuantity`` (a Quantity), ``valueString`` (a string) and so
on. Each selector knows the type of what it finds. ``as`` selects by type like ``ofType``: R4's own expressions
use it on collections.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from app.fhir.definitions import Element, specialises, type_definition
from app.fhir.expressions import (
    As,
    Both,
    Child,
    Either,
    Exists,
    ExpressionError,
    Is,
    Item,
    Node,
    Resolve,
    Same,
    This,
    Value,
    Where,
    WholeResource,
    parse,
)
from app.fhir.references import read_reference

Sink = Callable[[Any, Any], None]
"""Takes a value that was found, and whatever the walk was given to carry along."""

Condition = Callable[[Any], bool | None]
"""FHIRPath's three-valued logic: None is the empty collection."""


# What it selects.


@dataclass(frozen=True, slots=True)
class Get:
    """One JSON property of every value so far; arrays are opened and their nulls passed over."""

    property: str
    repeats: bool
    place: int | None = None
    """Of an array, only the item at this index."""


@dataclass(frozen=True, slots=True)
class Only:
    """The values for which ``condition`` is true."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class PointingTo:
    """The References whose target is a ``type``, as far as the Reference itself tells."""

    type: str


@dataclass(frozen=True, slots=True)
class Computed:
    """A truth value of the context, instead of a value in it."""

    condition: Condition


Step = Get | Only | PointingTo | Computed


@dataclass(frozen=True, slots=True)
class Selector:
    """One way from the context to values of one type."""

    type: str
    """FHIR type of what is found; ``Resource`` when only the value itself can say."""
    steps: tuple[Step, ...] = ()
    element: Element | None = None
    """The element found, with its targets and binding."""
    from_resource: bool = False
    """Whether it starts at the whole resource (``%resource``) and not at the context."""

    @property
    def needs(self) -> str | None:
        """Without this JSON property of the context nothing is found; None: it must always be tried."""
        first = self.steps[0] if self.steps else None
        return first.property if isinstance(first, Get) else None

    @property
    def path(self) -> tuple[str, ...]:
        """The JSON properties walked through, conditions left aside."""
        return tuple(step.property for step in self.steps if isinstance(step, Get))

    @property
    def targets(self) -> tuple[str, ...]:
        """Resource types that a Reference found here may point to; empty means any."""
        only = tuple(step.type for step in self.steps if isinstance(step, PointingTo))
        named = self.element.targets if self.element else ()
        return only or (() if "Resource" in named else named)

    def without_resolve(self) -> "Selector":
        """The same, but finding References whatever they point to."""
        kept = tuple(step for step in self.steps if not isinstance(step, PointingTo))
        return replace(self, steps=kept)

    def walk(self, sink: Sink) -> Sink:
        """Calls ``sink(found, carried)`` for each value found in the first argument.

        Never fails, whatever the JSON: where a shape is not R4's, nothing is found.
        """
        for step in reversed(self.steps):
            sink = _walk(step, sink)
        return sink

    def select(self, context: Any) -> list[Any]:
        """What is found, in document order."""
        found: list[Any] = []
        self.walk(_collect)(context, found)
        return found


@lru_cache(maxsize=8_192)
def selectors(expression: str, context_type: str, resource_type: str = "") -> tuple[Selector, ...]:
    """All ways of ``expression`` from a ``context_type``; those of other types are left out.

    ``resource_type`` is the type of ``%resource``; without one it is ``context_type``. Raises ExpressionError.
    """
    return tuple(_select(parse(expression), context_type, resource_type or context_type))


def _select(node: Node, context: str, resource: str) -> list[Selector]:
    match node:
        case This(name):
            return [Selector(context)] if not name or _is_a(context, name) else []
        case WholeResource():
            return [Selector(resource, from_resource=True)]
        case Either(left, right):
            return [*_select(left, context, resource), *_select(right, context, resource)]
        case Child(of, name):
            return [child for one in _select(of, context, resource) for child in _children(one, name)]
        case As(of, name):
            return [one for one in _select(of, context, resource) if _is_a(one.type, name)]
        case Item(of, place):
            return [_item(one, place) for one in _select(of, context, resource)]
        case Where(of, condition):
            return [_where(one, condition, resource) for one in _select(of, context, resource)]
        case Same() | Both() | Exists():
            return [Selector("boolean", (Computed(_condition(node, context, resource)),))]
        case _:
            raise ExpressionError(f"{type(node).__name__} does not select anything by itself")


def _children(of: Selector, name: str) -> Iterator[Selector]:
    element = type_definition(of.type).elements.get(name)
    if element is None:
        raise ExpressionError(f"{of.type} has no element {name}")
    for kind in element.types:
        suffix = kind[0].upper() + kind[1:] if element.is_choice else ""
        step = Get(name + suffix, element.repeats)
        yield Selector(element.path_type or kind, (*of.steps, step), element, of.from_resource)


def _item(of: Selector, place: int) -> Selector:
    *before, last = of.steps
    single = all(isinstance(step, Get) and not step.repeats for step in before)
    if not single or not isinstance(last, Get) or not last.repeats:
        raise ExpressionError("an index is understood only of the one array of its path")
    return replace(of, steps=(*before, replace(last, place=place)))


def _where(of: Selector, condition: Node, resource: str) -> Selector:
    step: Step
    if isinstance(condition, Is) and condition.of == Resolve(This()):
        step = PointingTo(_type_name(condition.type))
    else:
        step = Only(_condition(condition, of.type, resource))
    return replace(of, steps=(*of.steps, step))


def _is_a(name: str, ancestor: str) -> bool:
    return specialises(name, _type_name(ancestor))


def _type_name(name: str) -> str:
    """R4 writes ``value.as(DateTime)`` in Observation-code-value-date and means ``dateTime``."""
    for candidate in (name, name[0].lower() + name[1:]):
        try:
            return type_definition(candidate).name
        except KeyError:
            continue
    raise ExpressionError(f"R4 has no type {name}")


# Truth values.


def _condition(node: Node, context: str, resource: str) -> Condition:
    match node:
        case Both(left, right):
            return _both(_condition(left, context, resource), _condition(right, context, resource))
        case Exists(of):
            return _exists(_select(of, context, resource))
        case Same(left, Value(value), negated):
            return _same(_select(left, context, resource), value, negated)
        case _:
            raise ExpressionError(f"{type(node).__name__} is not a condition of the subset")


def _both(left: Condition, right: Condition) -> Condition:
    def both(context: Any) -> bool | None:
        first, second = left(context), right(context)
        if first is False or second is False:
            return False
        return None if first is None or second is None else True

    return both


def _exists(of: Sequence[Selector]) -> Condition:
    return lambda context: any(one.select(context) for one in of)


def _same(of: Sequence[Selector], value: object, negated: bool) -> Condition:
    def same(context: Any) -> bool | None:
        found = [item for one in of for item in one.select(context)]
        return (found == [value]) is not negated if found else None

    return same


# Walking.


def _collect(value: Any, found: Any) -> None:
    found.append(value)


def _walk(step: Step, then: Sink) -> Sink:
    match step:
        case Get(name, True, None):
            return _each(name, then)
        case Get(name, True, int(place)):
            return _nth(name, place, then)
        case Get(name, _, _):
            return _one(name, then)
        case Only(condition):
            return _only(condition, then)
        case PointingTo(name):
            return _only(lambda value: target_type(value) == name, then)
        case Computed(condition):
            return _computed(condition, then)


def _one(name: str, then: Sink) -> Sink:
    def one(value: Any, carried: Any) -> None:
        if type(value) is dict:
            found = value.get(name)
            if found is not None:
                then(found, carried)

    return one


def _each(name: str, then: Sink) -> Sink:
    def each(value: Any, carried: Any) -> None:
        if type(value) is dict:
            found = value.get(name)
            if type(found) is list:
                for item in found:
                    if item is not None:
                        then(item, carried)

    return each


def _nth(name: str, place: int, then: Sink) -> Sink:
    def nth(value: Any, carried: Any) -> None:
        if type(value) is dict:
            found = value.get(name)
            if type(found) is list and len(found) > place and found[place] is not None:
                then(found[place], carried)

    return nth


def _only(condition: Condition, then: Sink) -> Sink:
    def only(value: Any, carried: Any) -> None:
        if condition(value):
            then(value, carried)

    return only


def _computed(condition: Condition, then: Sink) -> Sink:
    def computed(value: Any, carried: Any) -> None:
        answer = condition(value)
        if answer is not None:
            then(answer, carried)

    return computed


def target_type(reference: Any) -> str | None:
    """The type that a Reference points to, by its literal text or else by its ``type``; None when neither tells."""
    if type(reference) is not dict:
        return None
    text = reference.get("reference")
    if type(text) is str:
        named = read_reference(text, "").type
        if named is not None or text.startswith("#"):
            return named
    said = reference.get("type")
    return said if type(said) is str else None
