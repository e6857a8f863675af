"""What a profile asks of one value: its type, the value, what it refers to, further profiles (R4 elementdefinition)."""

from collections.abc import Callable, Iterator

from app.fhir.profiles.elements import Fixed, Kind, Node
from app.fhir.profiles.items import Item
from app.fhir.profiles.paths import is_a
from app.fhir.profiles.scene import Profiles, Scene
from app.fhir.profiles.values import matches, ordering, shown

Check = Callable[[Item, Scene], None]


def type_checks(node: Node, label: str) -> Iterator[Check]:
    """That a choice, or a resource within another, has one of the types that the profile leaves."""
    allowed = {kind.code for kind in node.kinds}
    if not allowed or "" in allowed or (node.base and allowed >= set(node.base.types)):
        return
    text = f"{label} allows for {node.id} only: {', '.join(sorted(allowed))}."

    def check(item: Item, scene: Scene) -> None:
        if item.kind and not any(is_a(item.kind, name) for name in allowed):
            scene.verdict.error("structure", item.place, text)

    yield check


# The value.


def value_checks(node: Node, label: str) -> Iterator[Check]:
    """fixed[x], pattern[x], maxLength, minValue[x] and maxValue[x]."""
    if node.fixed is not None:
        yield _as_fixed(node, node.fixed, label)
    if node.max_length is not None:
        yield _not_longer(node, node.max_length, label)
    if node.least is not None:
        yield _in_order(
            node, node.least, -1, f"{label} requires {node.id} to be at least {shown(node.least)}."
        )
    if node.most is not None:
        yield _in_order(node, node.most, 1, f"{label} requires {node.id} to be at most {shown(node.most)}.")


def _as_fixed(node: Node, fixed: Fixed, label: str) -> Check:
    verb = "be exactly" if fixed.exact else "have"
    text = f"{label} requires {node.id} to {verb} {shown(fixed.value)}."

    def check(item: Item, scene: Scene) -> None:
        if not matches(item.value, fixed):
            scene.verdict.error("value", item.place, text)

    return check


def _not_longer(node: Node, longest: int, label: str) -> Check:
    text = f"{label} allows at most {longest} characters for {node.id}."

    def check(item: Item, scene: Scene) -> None:
        if isinstance(item.value, str) and len(item.value) > longest:
            scene.verdict.error("too-long", item.place, text)

    return check


def _in_order(node: Node, bound: object, wrong: int, text: str) -> Check:
    unclear = f"Not checked: {text}"

    def check(item: Item, scene: Scene) -> None:
        found = ordering(item.value, bound)
        if found == wrong:
            scene.verdict.error("value", item.place, text)
        elif found is None and item.value is not None:
            scene.verdict.warning("not-supported", item.place, unclear)

    return check


# References.


def target_checks(node: Node, label: str, profiles: Profiles) -> Iterator[Check]:
    """Where the profile narrows R4's list of what a Reference may point to. Targets are told apart by their type."""
    canonicals = [target for kind in node.kinds for target in kind.targets]
    if not canonicals:
        return
    allowed = {profiles.type_of(target) for target in canonicals}
    if node.base and node.base.targets and allowed >= set(node.base.targets):
        return
    yield _pointing_to(node, allowed, label)


def _pointing_to(node: Node, allowed: set[str], label: str) -> Check:
    names = sorted(allowed - {""})
    text = f"{label} allows {node.id} to refer only to: {', '.join(names)}."
    unclear = f"Not checked: whether {node.id} may refer to this; a profile of its targets is not known here."

    def check(item: Item, scene: Scene) -> None:
        target = scene.target_type(item.value)
        if not target or item.kind != "Reference" or any(is_a(target, name) for name in names):
            return
        if "" in allowed:
            scene.verdict.warning("not-found", item.place, unclear)
        else:
            scene.verdict.error("structure", item.place, text)

    return check


# Further profiles.


def profile_checks(node: Node, label: str, profiles: Profiles) -> Iterator[Check]:
    """That a value satisfies one of the profiles that its type names."""
    for kind in node.kinds:
        if len(kind.profiles) == 1:
            yield _of_profile(kind, kind.profiles[0], profiles)
        elif kind.profiles:
            yield _of_some_profile(node, kind, label, profiles)


def _of_profile(kind: Kind, profile: str, profiles: Profiles) -> Check:
    def check(item: Item, scene: Scene) -> None:
        if is_a(item.kind, kind.code):
            profiles.require(item, profile, scene)

    return check


def _of_some_profile(node: Node, kind: Kind, label: str, profiles: Profiles) -> Check:
    text = f"{label} requires {node.id} to conform to one of: {', '.join(kind.profiles)}."
    unclear = f"Not checked: {text}"

    def check(item: Item, scene: Scene) -> None:
        if not is_a(item.kind, kind.code):
            return
        answers = {profiles.conforms(item, profile, scene) for profile in kind.profiles}
        if answers == {False}:
            scene.verdict.error("structure", item.place, text)
        elif True not in answers:
            scene.verdict.warning("not-found", item.place, unclear)

    return check
