"""R4's elements in a tree of JSON: where one stands, and how it is put there, replaced and taken away.

A primitive is written in two members, ``birthDate`` for its value and ``_birthDate`` for its id and extensions; when
it repeats they are two arrays, item beside item, with ``null`` for what is not there (json.html#primitive).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, Optional

from app.fhir.definitions import RESOURCE_TYPES, Element, is_primitive, json_names, type_definition
from app.fhir.patching.document import Array, Object, RefusedError, Scalar, Value


@dataclass(frozen=True, slots=True)
class Content:
    """What one element consists of: its JSON value, and of a primitive the object of its id and extensions."""

    value: Value | None = None
    companion: Value | None = None


NOTHING: Final = Content()


@dataclass(frozen=True, slots=True)
class Members:
    """The members of ``holder`` that one element is written in, all of its repetitions together."""

    holder: Object
    name: str
    is_primitive: bool

    def are_there(self) -> bool:
        return any(name in self.holder for name in self._names())

    # Of an element that does not repeat.

    def content(self) -> Content:
        return Content(*(_present(self.holder.get(name)) for name in self._names()))

    def put(self, content: Content) -> None:
        """Takes the element away when ``content`` has nothing."""
        for name, value in self._beside(content):
            if value is not None:
                self.holder.put(name, value)
            elif name in self.holder:
                self.holder.remove(name)

    def renamed(self, name: str, *, is_primitive: bool) -> "Members":
        """As of another type of a choice, in the same place of the text; the old id and extensions go."""
        if name != self.name:
            if f"_{self.name}" in self.holder:
                self.holder.remove(f"_{self.name}")
            if self.name in self.holder:
                self.holder.rename(self.name, name)
        return Members(self.holder, name, is_primitive)

    # Of one that repeats.

    def __len__(self) -> int:
        arrays = [self._array(name) for name in self._names()]
        return max(0 if array is None else len(array) for array in arrays)

    def contents(self) -> Iterator[Content]:
        for row in zip_longest(*(self._array(name) or () for name in self._names())):
            yield Content(*map(_present, row))

    def insert(self, index: int, content: Content) -> None:
        """Before the item at ``index``, or as the last."""
        for array, item in self._arrays(content):
            array.insert(index, item)

    def replace(self, index: int, content: Content) -> None:
        for array, item in self._arrays(content):
            array.replace(index, item)
        self._tidy()

    def remove(self, index: int) -> None:
        for array, _ in self._arrays(NOTHING):
            array.remove(index)
        self._tidy()

    def move(self, source: int, destination: int) -> None:
        """``destination`` is the index that the item has afterwards."""
        for array, _ in self._arrays(NOTHING):
            array.insert(destination, array.remove(source))

    def _names(self) -> tuple[str, ...]:
        return (self.name, f"_{self.name}") if self.is_primitive else (self.name,)

    def _beside(self, content: Content) -> Iterator[tuple[str, Value | None]]:
        yield from zip(self._names(), (content.value, content.companion), strict=False)

    def _array(self, name: str) -> Array | None:
        found = self.holder.get(name)
        return found if isinstance(found, Array) else None

    def _arrays(self, content: Content) -> Iterator[tuple[Array, Value]]:
        """Those that are there or needed, filled up to the same length; with the item that belongs into each."""
        count = len(self)
        for name, value in self._beside(content):
            array = self._array(name)
            if array is None and value is not None:
                self.holder.put(name, array := Array("[]", self.holder.meter))
            if array is not None:
                for place in range(len(array), count):
                    array.insert(place, array.made("null"))
                yield array, array.made("null") if value is None else value

    def _tidy(self) -> None:
        """An array that says nothing any more goes."""
        for name in self._names():
            array = self._array(name)
            if array is not None and all(_present(item) is None for item in array):
                self.holder.remove(name)


def _present(value: Value | None) -> Value | None:
    return None if isinstance(value, Scalar) and value.value is None else value


# Where an element stands.


@dataclass(frozen=True, slots=True)
class Place:
    """One element of the resource, or the resource itself."""

    type: str
    """``Patient``, ``HumanName``, ``code``, or the path of a nested type: ``Patient.contact``."""
    content: Content
    element: Element | None = None
    members: Members | None = None
    """None for the resource, and only for it."""
    index: int | None = None
    """Among its repetitions; None when it does not repeat."""
    parent: Optional["Place"] = None

    @property
    def inside(self) -> Object | None:
        """The object that its own elements are written in, if it has one."""
        inside = self.content.companion if is_primitive(self.type) else self.content.value
        return inside if isinstance(inside, Object) else None

    def children(self, element: Element) -> Iterator["Place"]:
        """What is there of one of its elements, in the order of the text."""
        holder = self.inside
        if holder is None:
            return
        for type_name, members in written(holder, element):
            if element.repeats:
                for index, content in enumerate(members.contents()):
                    yield Place(_own_type(type_name, content), content, element, members, index, self)
            elif members.are_there():
                content = members.content()
                yield Place(_own_type(type_name, content), content, element, members, None, self)

    def opened(self) -> Object:
        """``inside``, made for a primitive that has neither id nor extension yet."""
        if self.inside is not None:
            return self.inside
        if self.members is None or not is_primitive(self.type):
            raise RefusedError("what is at its path is not of the shape that R4 gives it.")
        made = Object("{}", self.members.holder.meter)
        self.write(Content(self.content.value, made))
        return made

    def write(self, content: Content) -> None:
        """In the place of what is there."""
        if self.members is None:
            raise RefusedError("the whole resource cannot be replaced or deleted.")
        if self.index is None:
            self.members.put(content)
        else:
            self.members.replace(self.index, content)

    def delete(self) -> None:
        """Takes with it every element around that would be left empty: an element has a value or children (ele-1)."""
        if self.members is None or self.index is None:
            self.write(NOTHING)
        else:
            self.members.remove(self.index)
        if self.parent is not None:
            self.parent._emptied()

    def _emptied(self) -> None:
        if self.inside is None or len(self.inside):
            return
        if is_primitive(self.type) and self.content.value is not None:
            self.write(Content(self.content.value))
        else:
            self.delete()


def written(holder: Object, element: Element) -> Iterator[tuple[str, Members]]:
    """Every type that the element may have, and the members that it would be written in."""
    for kind in element.types:
        yield element.path_type or kind, Members(holder, member_name(element, kind), is_primitive(kind))


def member_name(element: Element, kind: str) -> str:
    """``valueQuantity`` for a choice, the element's own name otherwise."""
    return element.name + kind[0].upper() + kind[1:] if element.is_choice else element.name


def element_of(type_name: str, name: str) -> Element:
    """Raises RefusedError, in the words of R4, when the type has no such element."""
    found = (
        None if is_primitive(type_name) and name == "value" else type_definition(type_name).elements.get(name)
    )
    if found is not None:
        return found
    if not is_primitive(type_name) and name in json_names(type_name):
        real = json_names(type_name)[name][0].name
        raise RefusedError(f"the element {real} of {type_name} is written without its type.")
    raise RefusedError(f"{type_name} has no element of the name that the patch gives.")


def _own_type(type_name: str, content: Content) -> str:
    """A resource inside another tells its type itself."""
    if type_name != "Resource" or not isinstance(content.value, Object):
        return type_name
    named = content.value.get("resourceType")
    said = named.value if isinstance(named, Scalar) else None
    return said if isinstance(said, str) and said in RESOURCE_TYPES else type_name
