"""Which slice a value belongs to, and whether the slices are as the profile has them (R4 profiling#slicing)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.fhir.findings import Place
from app.fhir.profiles.bindings import is_bound
from app.fhir.profiles.elements import BY_TYPE, BY_URL, Discriminator, Node, Slicing
from app.fhir.profiles.items import Item
from app.fhir.profiles.paths import Child, Resolve, Step, described, follow, is_a, steps
from app.fhir.profiles.scene import Profiles, Scene
from app.fhir.profiles.values import matches
from app.fhir.profiles.wording import too_few, too_many

Check = Callable[[Item, Scene], None]
Test = Callable[[Item, Scene], bool | None]
"""Whether a value belongs; None when that cannot be told."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice: what belongs to it, how often, and what is asked of what belongs."""

    id: str
    min: int
    max: int | None
    belongs: Test | None
    """None for ``@default``: whatever belongs to no other."""
    check: Check | None
    """None when nothing more is asked."""
    again: "Slices | None" = None
    """Slices of this slice."""

    @property
    def asks(self) -> bool:
        return bool(self.min or self.max is not None or self.check or self.again)


@dataclass(frozen=True, slots=True)
class Holds:
    """The commonest Test: whether this text stands at the path."""

    path: tuple[Step, ...]
    text: str

    def __call__(self, item: Item, scene: Scene) -> bool:
        return any(found.value == self.text for found in follow(item, self.path, scene))


@dataclass(frozen=True, slots=True)
class _Placed:
    """A value, and by their index the slices that it belongs to and those that it may belong to."""

    item: Item
    surely: tuple[int, ...]
    perhaps: tuple[int, ...]

    @property
    def outside(self) -> bool:
        return not self.surely and not self.perhaps


@dataclass(frozen=True, slots=True)
class Slices:
    """The slices of one element."""

    id: str
    name: str
    label: str
    rules: str
    ordered: bool
    slices: tuple[Slice, ...]
    path: tuple[Step, ...] | None = field(init=False)
    """When all slices are told by a text at one path, that path: then ``texts`` is quicker than each Test."""
    texts: Mapping[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        tests = [one.belongs for one in self.slices if isinstance(one.belongs, Holds)]
        alike = len(tests) == len(self.slices) and len({test.path for test in tests}) == 1
        texts: dict[str, list[int]] = {}
        for index, test in enumerate(tests):
            texts.setdefault(test.text, []).append(index)
        object.__setattr__(self, "path", tests[0].path if alike else None)
        object.__setattr__(self, "texts", texts)

    def check(self, items: Sequence[Item], place: Place, scene: Scene) -> None:
        """``items`` are all values of the element in the parent at ``place``. Raises EnoughError."""
        placed = [self._placed(item, scene) for item in items]
        self._check_rules(placed, scene)
        for index, one in enumerate(self.slices):
            belonging = [each.item for each in placed if index in each.surely]
            doubtful = sum(index in each.perhaps for each in placed)
            self._check_slice(one, belonging, doubtful, place, scene)
        if any(each.perhaps for each in placed):
            text = f"Not checked: which slice of {self.id} a value belongs to ({self.label})."
            scene.verdict.warning("not-supported", (place, self.name, None), text)

    def _placed(self, item: Item, scene: Scene) -> _Placed:
        if self.path is not None:
            texts = {found.value for found in follow(item, self.path, scene) if found.value.__class__ is str}
            return _Placed(item, tuple(sorted(one for text in texts for one in self.texts.get(text, ()))), ())
        surely: list[int] = []
        perhaps: list[int] = []
        for index, one in enumerate(self.slices):
            belongs = one.belongs(item, scene) if one.belongs else not surely and not perhaps
            if belongs is None:
                perhaps.append(index)
            elif belongs:
                surely.append(index)
        return _Placed(item, tuple(surely), tuple(perhaps))

    def _check_rules(self, placed: Sequence[_Placed], scene: Scene) -> None:
        last, ended = -1, False
        for one in placed:
            if self.ordered and one.surely and one.surely[0] < last:
                self._refuse(one.item, f"has the slices of {self.id} in this order", scene)
            if self.rules == "openAtEnd" and one.surely and ended:
                self._refuse(one.item, f"allows for {self.id} other values only after its slices", scene)
            if self.rules == "closed" and one.outside:
                self._refuse(one.item, f"allows for {self.id} only what is of a slice", scene)
            last = max([last, *one.surely])
            ended = ended or one.outside

    def _refuse(self, item: Item, reason: str, scene: Scene) -> None:
        names = ", ".join(one.id.rpartition(":")[2] for one in self.slices)
        scene.verdict.error("structure", item.place, f"{self.label} {reason}: {names}.")

    def _check_slice(
        self, one: Slice, belonging: Sequence[Item], doubtful: int, place: Place, scene: Scene
    ) -> None:
        count, where = len(belonging), (place, self.name, None)
        if count + doubtful < one.min:
            scene.verdict.error("required", where, too_few(self.label, one.id, one.min, count))
        if one.max is not None and count > one.max:
            scene.verdict.error("structure", where, too_many(self.label, one.id, one.max, count))
        if one.check is not None:
            for item in belonging:
                one.check(item, scene)
        if one.again is not None:
            one.again.check(belonging, place, scene)


# Which slice.


def slicing_of(node: Node) -> Slicing | None:
    """The slicing of a node with slices; extensions are sliced by url and choices by type without saying so."""
    if not node.slices or node.slicing is not None:
        return node.slicing
    if node.name in ("extension", "modifierExtension"):
        return BY_URL
    return BY_TYPE if node.base is not None and node.base.is_choice else Slicing()


def belongs(slicing: Slicing, one: Node, profiles: Profiles) -> Test:
    """What tells a value of the slice ``one`` from others; always unsure when nothing does."""
    found = (_criterion(each, one, profiles) for each in slicing.discriminators)
    tests = [test for test in found if test is not None]
    if not tests:
        return _unsure
    return tests[0] if len(tests) == 1 else _all(tests)


def _unsure(item: Item, scene: Scene) -> None:
    return None


def _criterion(of: Discriminator, one: Node, profiles: Profiles) -> Test | None:
    """None when the slice says nothing at the discriminator's path, or the path is more than we follow."""
    path = steps(of.path)
    if path is None:
        return None
    if of.type == "profile":
        return _by_profile(one, path, profiles)
    nodes = described(one, path, profiles.tree)
    if of.type == "type":
        return _by_type(nodes, path)
    if of.type == "exists":
        return _by_existence(nodes, path)
    return _by_value(nodes, path) or _by_existence(nodes, path) or _by_url(one, path)


def _by_value(nodes: Sequence[Node], path: tuple[Step, ...]) -> Test | None:
    shapes = [shape for node in nodes if (shape := _shape(node)) is not None]
    if not shapes:
        return None
    fixed = nodes[0].fixed
    if len(nodes) == 1 and fixed is not None and isinstance(fixed.value, str):
        return Holds(path, fixed.value)
    shape = shapes[0] if len(shapes) == 1 else _any(shapes)
    return _somewhere(path, shape) if path else shape


def _somewhere(path: Sequence[Step], shape: Test) -> Test:
    """Of several values at the path one is enough: a concept may have further codings."""

    def somewhere(item: Item, scene: Scene) -> bool | None:
        return _either(shape(found, scene) for found in follow(item, path, scene))

    return somewhere


def _shape(node: Node) -> Test | None:
    """What the node says of its value: fixed, pattern, a required value set, or the same of its children."""
    fixed, binding = node.fixed, node.binding
    if fixed is not None:
        return lambda item, scene: matches(item.value, fixed)
    if binding is not None and binding.strength == "required" and binding.value_set:
        value_set = binding.value_set
        return lambda item, scene: is_bound(item, scene.codes(value_set))
    parts = list(_parts(node))
    return _all(parts) if parts else None


def _parts(node: Node) -> Iterator[Test]:
    for child in node.children.values():
        required = [one for one in child.slices.values() if one.min > 0]
        for one in (child, *required):
            if (shape := _shape(one)) is not None:
                yield _somewhere((Child(child.name),), shape)


def _by_existence(nodes: Sequence[Node], path: Sequence[Step]) -> Test | None:
    if nodes and all(node.max == 0 for node in nodes):
        return lambda item, scene: not follow(item, path, scene)
    if any(node.min > 0 for node in nodes):
        return lambda item, scene: bool(follow(item, path, scene))
    return None


def _by_url(one: Node, path: Sequence[Step]) -> Test | None:
    """An extension's slice that names its definition, of which nothing more is known."""
    urls = {profile for kind in one.kinds if kind.code == "Extension" for profile in kind.profiles}
    if tuple(path) != (Child("url"),) or not urls:
        return None
    return lambda item, scene: item.value.__class__ is dict and item.value.get("url") in urls


def _by_type(nodes: Iterable[Node], path: Sequence[Step]) -> Test | None:
    types = {name for node in nodes for name in _types(node)}
    if not types:
        return None

    def by_type(item: Item, scene: Scene) -> bool | None:
        return _either(_is_one(found.kind, types) for found in follow(item, path, scene))

    return by_type


def _types(node: Node) -> Iterable[str]:
    return [kind.code for kind in node.kinds if kind.code] or node.types


def _is_one(kind: str, types: Iterable[str]) -> bool | None:
    return any(is_a(kind, name) for name in types) if kind else None


def _by_profile(one: Node, path: Sequence[Step], profiles: Profiles) -> Test | None:
    resolves = bool(path) and path[-1] == Resolve()
    nodes = described(one, path[:-1] if resolves else path, profiles.tree)
    kinds = [kind for node in nodes for kind in node.kinds]
    asked = [name for kind in kinds for name in (kind.targets if resolves else kind.profiles)]
    if not asked:
        return None

    def by_profile(item: Item, scene: Scene) -> bool | None:
        return _either(
            profiles.conforms(found, one, scene) for found in follow(item, path, scene) for one in asked
        )

    return by_profile


# Three-valued logic.


def _either(answers: Iterable[bool | None]) -> bool | None:
    found = set(answers)
    return True if True in found else None if None in found else False


def _any(tests: Sequence[Test]) -> Test:
    return lambda item, scene: _either(test(item, scene) for test in tests)


def _all(tests: Sequence[Test]) -> Test:
    def all_of_them(item: Item, scene: Scene) -> bool | None:
        unsure = False
        for test in tests:
            answer = test(item, scene)
            if answer is False:
                return False
            unsure = unsure or answer is None
        return None if unsure else True

    return all_of_them
