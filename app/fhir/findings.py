"""What a check of a resource finds, and where: the issues so far, and the places they name."""

from typing import Any

from app.errors import Issue

MOST_ISSUES = 100

Place = tuple[Any, str, int | None]
"""Where a value stands: (where its parent stands, element name, index or None). The root has no parent."""


class EnoughError(Exception):
    """There are ``MOST_ISSUES`` issues: more help nobody."""


class Findings:
    __slots__ = ("issues", "local")

    def __init__(self) -> None:
        self.issues: list[Issue] = []
        self.local: list[tuple[Place, str]] = []
        """``#id`` references met since the last resource that is not contained began."""

    def add(self, code: str, place: Place, text: str) -> None:
        """An error at ``place``. ``code`` is of R4's issue-type; ``text`` repeats no value. Raises EnoughError."""
        self.issues.append(Issue("error", code, text, expression(place)))
        if len(self.issues) >= MOST_ISSUES:
            raise EnoughError


def expression(place: Place | None) -> str:
    """FHIRPath of the simple kind that OperationOutcome takes: ``Observation.component[1].code``."""
    parts: list[str] = []
    while place:
        place, name, index = place
        parts.append(name if index is None else f"{name}[{index}]")
    return ".".join(reversed(parts))
