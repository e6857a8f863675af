"""A discriminator's path, followed both in the resource and in the profile (R4 profiling#discriminator).

The restricted FHIRPath of discriminators: ``$this``, element names, ``extension('url')``, ``ofType(Type)`` and
``resolve()``.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.fhir.definitions import specialises
from app.fhir.profiles.elements import Node, Trees
from app.fhir.profiles.items import Item, children, resource_type
from app.fhir.profiles.scene import Scene


@dataclass(frozen=True, slots=True)
class Child:
    name: str


@dataclass(frozen=True, slots=True)
class Extension:
    url: str


@dataclass(frozen=True, slots=True)
class OfType:
    name: str


@dataclass(frozen=True, slots=True)
class Resolve:
    pass


Step = Child | Extension | OfType | Resolve

_STEP = re.compile(
    r"""(?:extension\((?P<q>['"])(?P<url>[^'"]+)(?P=q)\)|(?:ofType|as)\((?:FHIR\.)?(?P<type>\w+)\)
    |(?P<resolve>resolve\(\))|(?P<name>\w+)(?:\[x\])?)(?:\.|$)""",
    re.VERBOSE,
)


def steps(path: str) -> tuple[Step, ...] | None:
    """The path's steps; none for ``$this``. None when it says more than discriminators may."""
    rest = path.removeprefix("$this").removeprefix(".")
    found: list[Step] = []
    while rest:
        step = _STEP.match(rest)
        if step is None:
            return None
        found.append(_step(step))
        rest = rest[step.end() :]
    return tuple(found)


def _step(found: re.Match[str]) -> Step:
    if found["url"]:
        return Extension(found["url"])
    if found["type"]:
        return OfType(found["type"])
    return Resolve() if found["resolve"] else Child(found["name"])


# In the resource.


def follow(item: Item, path: Sequence[Step], scene: Scene) -> list[Item]:
    """What stands at the path. A Reference to what is not here resolves to an item of its type without a value."""
    items = [item]
    for step in path:
        items = [found for one in items for found in _next(one, step, scene)]
    return items


def _next(item: Item, step: Step, scene: Scene) -> Iterable[Item]:
    match step:
        case Child(name):
            return children(item, name)
        case Extension(url):
            return [one for one in children(item, "extension") if _url(one) == url]
        case OfType(name):
            return [item] if is_a(item.kind, name) else []
        case Resolve():
            found = scene.find(item.value)
            kind = resource_type(found) if found is not None else scene.target_type(item.value)
            return [Item(found, None, kind, item.place)]


def _url(extension: Item) -> object:
    return extension.value.get("url") if extension.value.__class__ is dict else None


def is_a(kind: str, ancestor: str) -> bool:
    try:
        return kind == ancestor or specialises(kind, ancestor)
    except KeyError:
        return False


# In the profile.


def described(node: Node, path: Sequence[Step], trees: Trees) -> list[Node]:
    """The nodes that say what has to stand at the path, seen from a slice's node.

    Several when the path leads through slices that are required: each says it of its own part.
    """
    nodes = [node]
    for step in path:
        nodes = [found for one in nodes for found in _said(one, step, trees)]
    return nodes


def _said(node: Node, step: Step, trees: Trees) -> Iterator[Node]:
    match step:
        case Child(name):
            for one in _with_required_slices(node):
                yield from _children_named(one, name, trees)
        case Extension(url):
            extensions = node.children.get("extension")
            yield from (one for one in extensions.slices.values() if has_url(one, url)) if extensions else ()
        case OfType(name):
            yield from (one for one in (node, *node.slices.values()) if _may_be(one, name))
        case Resolve():
            targets = (target for kind in node.kinds for target in kind.targets)
            yield from (tree for target in targets if (tree := trees(target)) is not None)


def _with_required_slices(node: Node) -> list[Node]:
    return [node, *(one for one in node.slices.values() if one.min > 0)]


def _children_named(node: Node, name: str, trees: Trees) -> Iterator[Node]:
    if name in node.children:
        yield from _with_required_slices(node.children[name])
        return
    profiles = [profile for kind in node.kinds for profile in kind.profiles]
    tree = trees(profiles[0]) if len(profiles) == 1 else None
    if tree is not None and name in tree.children:
        yield from _with_required_slices(tree.children[name])


def has_url(slice_of_extension: Node, url: str) -> bool:
    """Whether an extension's slice is the one for ``url``."""
    said = slice_of_extension.children.get("url")
    named = {profile for kind in slice_of_extension.kinds for profile in kind.profiles}
    return url in named or bool(said and said.fixed and said.fixed.value == url)


def _may_be(node: Node, type_name: str) -> bool:
    return not node.kinds or any(is_a(kind.code, type_name) for kind in node.kinds)
