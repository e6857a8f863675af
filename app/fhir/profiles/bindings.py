"""Whether coded values are from the value sets that a profile binds them to (R4 terminologies#strength)."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from app.fhir import definitions
from app.fhir.profiles.elements import Binding, Node
from app.fhir.profiles.items import Item, Json
from app.fhir.profiles.scene import Codes, Scene
from app.fhir.profiles.verdict import Severity

Check = Callable[[Item, Scene], None]

_BROKEN: dict[str, Severity] = {
    "required": "error",
    "extensible": "warning",
    "preferred": "information",
}
_UNKNOWN: dict[str, Severity] = {
    "required": "warning",
    "extensible": "warning",
    "preferred": "information",
}


def binding_checks(node: Node, label: str) -> Iterator[Check]:
    """Checks for the node's binding, as far as the base check does not do the same."""
    binding = node.binding
    if binding is None:
        return
    if binding.value_set and binding.strength in _BROKEN and not _is_checked_anyway(node, binding):
        yield _bound(node, binding.value_set, binding.strength, label)
    if binding.max_value_set and binding.strength != "required":
        yield _bound(node, binding.max_value_set, "required", label)


def _is_checked_anyway(node: Node, binding: Binding) -> bool:
    """R4's own required codes are the base check's business, when it knows them."""
    if node.base is None or binding.strength != "required" or node.base.binding != binding.value_set:
        return False
    kinds = set(node.types)
    return kinds <= {"code", "CodeableConcept"} and definitions.value_set(binding.value_set) is not None


def _bound(node: Node, value_set: str, strength: str, label: str) -> Check:
    verb = "requires" if strength == "required" else "asks for"
    broken = f"{label} {verb} a code from the value set {value_set} for {node.id} ({strength} binding)."
    unknown = f"Not checked: the value set {value_set} is not known here ({strength} binding of {node.id})."

    def check(item: Item, scene: Scene) -> None:
        codes = scene.codes(value_set)
        if codes is None:
            if _is_coded(item) and value_set not in scene.said:
                scene.said.add(value_set)
                scene.verdict.say(_UNKNOWN[strength], "not-found", item.place, unknown)
        elif is_bound(item, codes) is False and not _is_excused(item, strength):
            scene.verdict.say(_BROKEN[strength], "code-invalid", item.place, broken)

    return check


def is_bound(item: Item, codes: Codes | None) -> bool | None:
    """Whether one of the value's codes is among ``codes``; None when they are not known or it is not coded."""
    if codes is None or not _is_coded(item):
        return None
    value = item.value
    if isinstance(value, str):
        return value in _bare(codes)
    if item.kind == "CodeableConcept":
        return any(_pair(coding) in codes for coding in _codings(value))
    return _pair(value) in codes


def _is_coded(item: Item) -> bool:
    """A Quantity without a code has a number alone, to which no value set applies."""
    value = item.value
    if isinstance(value, str):
        return item.kind in ("code", "string", "uri", "canonical", "url", "id", "markdown")
    if not isinstance(value, dict):
        return False
    return item.kind in ("Coding", "CodeableConcept") or (item.kind == "Quantity" and "code" in value)


def _is_excused(item: Item, strength: str) -> bool:
    """An extension may say why there is no code; text alone will do where the value set may be extended."""
    if not isinstance(item.value, dict):
        return False
    has_code = "code" in item.value or bool(_codings(item.value))
    return not has_code and ("extension" in item.value or strength != "required")


def _codings(concept: Json) -> list[Any]:
    codings = concept.get("coding")
    return codings if isinstance(codings, list) else []


def _pair(coding: Any) -> tuple[str, str]:
    if not isinstance(coding, dict):
        return "", ""
    system, code = coding.get("system"), coding.get("code")
    return (system if isinstance(system, str) else ""), (code if isinstance(code, str) else "")


@lru_cache(maxsize=1_024)
def _bare(codes: Codes) -> frozenset[str]:
    """An element of type code does not say its system."""
    return frozenset(code for _, code in codes)
