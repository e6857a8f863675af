"""Where a path of a FHIRPath Patch leads: the elements of the resource's tree that it finds (R4 fhirpatch.html).

Understood are paths, ``[n]``, ``first()``, ``last()``, ``where(…)``, ``extension('url')``, ``as`` and ``ofType``,
``resolve()`` of what is contained, and in conditions ``=``, ``!=``, ``and``, ``or``, ``not()``, ``exists()``,
``empty()``, ``is``, ``$this``, ``%resource`` and literals.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice

from app.fhir.definitions import RESOURCE_TYPES, Element, is_primitive, specialises, type_definition
from app.fhir.expressions import (
    AnyOf,
    As,
    Both,
    Child,
    Exists,
    First,
    Is,
    Item,
    Last,
    Node,
    Not,
    Resolve,
    Same,
    This,
    Value,
    Where,
    WholeResource,
)
from app.fhir.fhirpath import target_type
from app.fhir.patching.document import Document, RefusedError, Scalar
from app.fhir.patching.elements import Content, Members, Place, element_of

Found = Place | str | bool | int | Decimal
"""An element, or a value that the path itself has."""


class Finder:
    """Follows paths through one document, as it is at the time."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def find(self, path: Node) -> list[Place]:
        """The elements that ``path`` finds, in the order of the text. Raises RefusedError, TooCostly."""
        found = self._found(path, [self._resource()])
        places = [one for one in found if isinstance(one, Place)]
        if len(places) < len(found):
            raise RefusedError("its path gives a value and not an element.")
        return places

    def single(self, path: Node) -> Place:
        """The one element that it finds."""
        found = self.find(path)
        if len(found) != 1:
            raise RefusedError(f"its path finds {len(found) or 'no'} elements, and one is needed.")
        return found[0]

    def repetitions(self, path: Node) -> tuple[Element, Members]:
        """The element that ``path`` ends with, which repeats, and all of its repetitions in one place."""
        if not isinstance(path, Child):
            raise RefusedError("its path has to end with the name of an element that repeats.")
        holder = self.single(path.of)
        element = element_of(holder.type, path.name)
        if not element.repeats:
            raise RefusedError(f"the element {element.name} of {holder.type} does not repeat.")
        members = next((place.members for place in holder.children(element)), None)
        if members is None:
            raise RefusedError("no element is at its path; add makes the first one.")
        return element, members

    def _resource(self) -> Place:
        kind = self._document.resource_type
        if kind not in RESOURCE_TYPES:
            raise RefusedError("the resource's type is not one of FHIR R4.")
        return Place(kind, Content(self._document.root))

    # Each kind of node.

    def _found(self, node: Node, focus: Sequence[Found]) -> list[Found]:
        match node:
            case This(name):
                return self._this(name, focus)
            case WholeResource():
                return [self._resource()]
            case Value(value):
                return [value]
            case Child(of, name):
                return list(self._children(self._found(of, focus), name))
            case Item(Child(of, name), place):
                # Not all of a long list for one of its items.
                return list(islice(self._children(self._found(of, focus), name), place, place + 1))
            case Item(of, place):
                return self._found(of, focus)[place : place + 1]
            case First(of):
                return self._found(of, focus)[:1]
            case Last(of):
                return self._found(of, focus)[-1:]
            case Where(of, condition):
                return [one for one in self._found(of, focus) if self._holds(condition, [one])]
            case As(of, name):
                kind = _known(name)
                return [one for one in self._found(of, focus) if _is_a(one, kind)]
            case Resolve(of):
                return [inner for one in self._found(of, focus) for inner in self._contained(one)]
            case _:
                answer = self._truth(node, focus)
                return [] if answer is None else [answer]

    def _this(self, name: str, focus: Sequence[Found]) -> list[Found]:
        kept = [one for one in focus if not name or _is_a(one, _known(name))]
        if not kept:
            raise RefusedError("its path begins with another type than that of the resource.")
        return kept

    def _children(self, of: Iterable[Found], name: str) -> Iterator[Place]:
        refused: RefusedError | None = None
        known = False
        for one in of:
            try:
                element = element_of(_place(one).type, name)
            except RefusedError as error:
                # Others of a mixed collection may have it, the resources of a Bundle for instance.
                refused = error
                continue
            known = True
            for child in _place(one).children(element):
                self._document.meter.step()
                yield child
        if refused is not None and not known:
            raise refused

    def _contained(self, reference: Found) -> list[Place]:
        """Paths SHALL NOT cross resources; ``resolve()`` is for what is contained."""
        literal = _plain_child(reference, "reference")
        if not isinstance(literal, str) or not literal.startswith("#"):
            raise RefusedError("resolve() in its path leads out of the resource.")
        resource = self._resource()
        if literal == "#":
            return [resource]
        inner = self._children([resource], "contained")
        return [one for one in inner if _plain_child(one, "id") == literal[1:]]

    # Truth values: None is the empty collection.

    def _holds(self, condition: Node, focus: Sequence[Found]) -> bool:
        return self._single_truth(self._found(condition, focus)) is True

    def _truth(self, node: Node, focus: Sequence[Found]) -> bool | None:
        match node:
            case Exists(of):
                return bool(self._found(of, focus))
            case Not(of):
                answer = self._single_truth(self._found(of, focus))
                return None if answer is None else not answer
            case Is(Resolve(of), name):
                return self._points_to(self._found(of, focus), _known(name))
            case Is(of, name):
                kind, found = _known(name), _at_most_one(self._found(of, focus))
                return _is_a(found[0], kind) if found else None
            case Same(left, right, negated):
                same = _same(self._found(left, focus), self._found(right, focus))
                return None if same is None else same is not negated
            case Both(left, right):
                return _both(*(self._single_truth(self._found(one, focus)) for one in (left, right)))
            case AnyOf(left, right):
                return _any_of(*(self._single_truth(self._found(one, focus)) for one in (left, right)))
            case _:
                raise RefusedError("its path has | in it, and cannot.")

    def _single_truth(self, found: Sequence[Found]) -> bool | None:
        value = next((_plain(one) for one in _at_most_one(found)), None)
        if value is not None and not isinstance(value, bool):
            raise RefusedError("a condition in its path is neither true nor false.")
        return value

    def _points_to(self, references: Sequence[Found], name: str) -> bool | None:
        found = _at_most_one(references)
        if not found:
            return None
        literal, said = (_plain_child(found[0], member) for member in ("reference", "type"))
        if isinstance(literal, str) and literal.startswith("#"):
            return any(_is_a(one, name) for one in self._contained(found[0]))
        kind = target_type({"reference": literal, "type": said})
        return kind is not None and kind == name


def _place(found: Found) -> Place:
    if not isinstance(found, Place):
        raise RefusedError("a value in its path has no elements.")
    return found


def _at_most_one(found: Sequence[Found]) -> Sequence[Found]:
    if len(found) > 1:
        raise RefusedError(f"a condition in its path finds {len(found)} values where one is needed.")
    return found


def _plain(found: Found) -> str | bool | int | Decimal | None:
    """The value of a primitive; None when it has only extensions."""
    if not isinstance(found, Place):
        return found
    if not is_primitive(found.type):
        raise RefusedError("a condition in its path compares more than a primitive value.")
    value = found.content.value
    plain = value.value if isinstance(value, Scalar) else None
    return plain if isinstance(plain, str | bool | int | Decimal) else None


def _plain_child(found: Found, name: str) -> object:
    """The value of an element that is a primitive and does not repeat."""
    inside = _place(found).inside
    value = inside.get(name) if inside is not None else None
    return value.value if isinstance(value, Scalar) else None


def _is_a(found: Found, name: str) -> bool:
    return isinstance(found, Place) and specialises(found.type, name)


def _known(name: str) -> str:
    """The name of a type."""
    try:
        return type_definition(name).name
    except KeyError as error:
        raise RefusedError("its path names a type that R4 does not have.") from error


def _same(left: Sequence[Found], right: Sequence[Found]) -> bool | None:
    mine, theirs = ([value for one in side if (value := _plain(one)) is not None] for side in (left, right))
    if not mine or not theirs:
        return None
    return len(mine) == len(theirs) and all(map(_equal, mine, theirs))


def _equal(left: object, right: object) -> bool:
    return isinstance(left, bool) is isinstance(right, bool) and left == right


def _both(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _any_of(left: bool | None, right: bool | None) -> bool | None:
    if left is True or right is True:
        return True
    return None if left is None or right is None else False
