"""A profile's tree compiled into rules: per element how often, of which type, with what in it (R4 profiling).

What R4 asks anyway is left to the base check (``app.fhir.validation``), so that a profile costs what it adds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.profiles.bindings import binding_checks
from app.fhir.profiles.checks import profile_checks, target_checks, type_checks, value_checks
from app.fhir.profiles.elements import Node, Slicing
from app.fhir.profiles.engine import constraint_checks
from app.fhir.profiles.items import Item, children
from app.fhir.profiles.scene import Profiles, Scene
from app.fhir.profiles.slicing import Slice, Slices, belongs, slicing_of
from app.fhir.profiles.wording import too_few, too_many

Check = Callable[[Item, Scene], None]


@dataclass(slots=True)
class Rule:
    """What a profile asks of one element beyond R4."""

    id: str
    name: str
    label: str
    min: int = 0
    """0 when R4 asks for as many."""
    max: int | None = None
    """None when R4 allows no more."""
    checks: tuple[Check, ...] = ()
    children: "list[Rule]" = field(default_factory=list)
    slices: Slices | None = None
    content: "Rule | None" = None

    def check(self, item: Item, scene: Scene) -> None:
        """The value itself and all that is in it. Raises EnoughError with the verdict."""
        if item.kind in RESOURCE_TYPES and item.value is not scene.resource:
            scene = scene.inside(item.value)
        for check in self.checks:
            check(item, scene)
        for rule in self.children:
            rule._check_in(item, scene)
        if self.content is not None:
            self.content.check(item, scene)

    def _check_in(self, parent: Item, scene: Scene) -> None:
        items = children(parent, self.name)
        count = len(items)
        where = (parent.place, self.name, None)
        if count < self.min:
            scene.verdict.error("required", where, too_few(self.label, self.id, self.min, count))
        if self.max is not None and count > self.max:
            scene.verdict.error("structure", where, too_many(self.label, self.id, self.max, count))
        for item in items:
            self.check(item, scene)
        if self.slices is not None:
            self.slices.check(items, parent.place, scene)


def compiled(tree: Node, label: str, profiles: Profiles) -> Rule:
    """The rule of a whole profile. ``label`` names the profile in the sentences of issues."""
    return _Compiler(label, profiles).rule(tree)


class _Compiler:
    def __init__(self, label: str, profiles: Profiles) -> None:
        self._label = label
        self._profiles = profiles
        self._rules: dict[tuple[int, int], Rule] = {}

    def rule(self, node: Node, anyway: Node | None = None) -> Rule:
        """``anyway`` is checked of the same values too. Each is made once: content may refer to its own ancestor."""
        anyway = node.granted or anyway
        key = (id(node), id(anyway))
        if key not in self._rules:
            self._rules[key] = Rule(node.id, node.name, self._label)
            self._fill(self._rules[key], node, anyway)
        return self._rules[key]

    def _fill(self, rule: Rule, node: Node, anyway: Node | None) -> None:
        known = anyway or node.base
        rule.min = 0 if known and node.min <= known.min else node.min
        rule.max = None if known and node.max == known.max else node.max
        rule.checks = tuple(self._checks(_beyond(node, anyway) if anyway else node))
        rule.children = [rule for rule in self._children(node, anyway) if _matters(rule)]
        rule.slices = self._slices(node)
        rule.content = self._content(node)

    def _children(self, node: Node, anyway: Node | None) -> Iterator[Rule]:
        for name, child in node.children.items():
            yield self.rule(child, anyway.children.get(name) if anyway else None)

    def _checks(self, node: Node) -> Iterator[Check]:
        yield from type_checks(node, self._label)
        yield from value_checks(node, self._label)
        yield from binding_checks(node, self._label)
        yield from target_checks(node, self._label, self._profiles)
        yield from profile_checks(node, self._label, self._profiles)
        yield from constraint_checks(node)

    def _slices(self, node: Node) -> Slices | None:
        slicing = slicing_of(node)
        if slicing is None:
            return None
        strict = slicing.rules != "open" or slicing.ordered
        slices = [self._slice(name, one, node, slicing) for name, one in node.slices.items()]
        asking = [one for one in slices if strict or one.asks]
        if not asking:
            return None
        return Slices(node.id, node.name, self._label, slicing.rules, slicing.ordered, tuple(asking))

    def _slice(self, name: str, one: Node, node: Node, slicing: Slicing) -> Slice:
        tells = None if name == "@default" else belongs(slicing, one, self._profiles)
        rule = self.rule(one, node)
        least = 0 if one.granted and one.min <= one.granted.min else one.min
        most = None if one.max in (node.max, one.granted and one.granted.max) else one.max
        check = rule.check if _has_content(rule) else None
        return Slice(one.id, least, most, tells, check, rule.slices)

    def _content(self, node: Node) -> Rule | None:
        seen = {id(node)}
        while node.content is not None:
            node = node.content
            if id(node) in seen:
                return None
            seen.add(id(node))
        return self.rule(node) if len(seen) > 1 else None


def _beyond(node: Node, anyway: Node) -> Node:
    """What a node asks beyond another; a snapshot repeats in every slice what it says of the sliced element."""
    return replace(
        node,
        kinds=() if node.kinds == anyway.kinds else node.kinds,
        fixed=None if node.fixed == anyway.fixed else node.fixed,
        binding=None if node.binding == anyway.binding else node.binding,
        max_length=None if node.max_length == anyway.max_length else node.max_length,
        least=None if node.least == anyway.least else node.least,
        most=None if node.most == anyway.most else node.most,
        constraints=tuple(one for one in node.constraints if one not in anyway.constraints),
    )


def _matters(rule: Rule) -> bool:
    return bool(rule.min or rule.max is not None or rule.slices is not None or _has_content(rule))


def _has_content(rule: Rule) -> bool:
    return bool(rule.checks or rule.children or rule.content is not None)
