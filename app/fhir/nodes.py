"""A parsed JSON object of a definition and where it stands, read strictly.

What has another shape than R4's is refused rather than passed over: an ``exclude`` that was not understood would let
in what it keeps out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidDefinition


def shown(text: str) -> str:
    """A name that a caller chose, fit for an error text and for the log."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text[:200])


@dataclass(frozen=True, slots=True)
class Node:
    """``path`` is simple FHIRPath: ``ValueSet.compose.include[0]``. All reading raises InvalidDefinition."""

    value: Mapping[str, Any]
    path: str

    def text(self, name: str) -> str | None:
        """A string that is not empty; None when it is absent."""
        found = self.value.get(name)
        if found is not None and (not isinstance(found, str) or not found):
            raise self.refused(name, "a text is needed here")
        return found

    def needed(self, name: str) -> str:
        found = self.text(name)
        if found is None:
            raise self.refused(name, "this is needed")
        return found

    def flag(self, name: str) -> bool | None:
        found = self.value.get(name)
        if found is not None and not isinstance(found, bool):
            raise self.refused(name, "true or false is needed here")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._list(name)
        if not all(isinstance(one, str) and one for one in found):
            raise self.refused(name, "texts are needed here")
        return tuple(found)

    def node(self, name: str) -> "Node | None":
        found = self.value.get(name)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise self.refused(name, "an object is needed here")
        return Node(found, f"{self.path}.{name}")

    def nodes(self, name: str) -> tuple["Node", ...]:
        found = self._list(name)
        if not all(isinstance(one, dict) for one in found):
            raise self.refused(name, "objects are needed here")
        return tuple(Node(one, f"{self.path}.{name}[{place}]") for place, one in enumerate(found))

    def choice(self, name: str) -> tuple[str, Any]:
        """The type, as JSON writes it, and the value of ``name[x]``: ``("Code", "retired")``."""
        found = [key for key in self.value if key.startswith(name)]
        if len(found) != 1 or found[0] == name:
            raise self.refused(name, "one value of a type that R4 names is needed here")
        return found[0].removeprefix(name), self.value[found[0]]

    def _list(self, name: str) -> list[Any]:
        found = self.value.get(name, [])
        if not isinstance(found, list):
            raise self.refused(name, "an array is needed here")
        return found

    def refused(self, name: str, reason: str) -> InvalidDefinition:
        path = f"{self.path}.{name}"
        return InvalidDefinition(f"{path}: {reason}.", expression=path)
