"""What an export asks for and what it answers (HL7 FHIR Bulk Data Access 2.0.0, "Bulk Data Export Operation").

What is not supported is refused by name, or noted and left out under ``Prefer: handling=lenient``. A supported
parameter with a value that cannot be read is refused in both, and so is a ``_typeFilter`` that cannot be applied to
the letter: without it more would be exported than was asked for.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Literal
from urllib.parse import parse_qsl

from app.errors import CandourError, InvalidInput, TooCostly, UnsupportedInput
from app.fhir.compartments import in_patient_compartment
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.instants import instant
from app.fhir.query import KEPT_APART, SearchQuery, parse_search
from app.fhir.references import read_reference
from app.fhir.subset import Subset, read_subset

Level = Literal["system", "patient", "group"]
Pair = tuple[str, str]

NDJSON = "application/fhir+ndjson"
FORMATS = frozenset({NDJSON, "application/ndjson", "ndjson"})

MOST_PATIENTS = 1_000
"""Patients that one request may name."""
_MOST_FILTERS = 50

_SHAPING = frozenset(
    {"_count", "_sort", "_summary", "_elements", "_total", "_include", "_revinclude", "_format", "_pretty"}
)
_PRESENTATION = frozenset({"_format", "_pretty"})
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_NEXT_FILTER = re.compile(r"(?<!\\),(?=[A-Z][A-Za-z]+\?)")
"""Between two filters in one value: a comma within a search never stands before a type and a question mark."""


@cache
def exportable(level: Level) -> frozenset[str]:
    """Types that can be exported: for patients, those of R4's patient compartment."""
    every = RESOURCE_TYPES - KEPT_APART
    return every if level == "system" else frozenset(one for one in every if in_patient_compartment(one))


@dataclass(frozen=True, slots=True)
class ExportQuestion:
    """What is to be exported."""

    level: Level
    types: tuple[str, ...] | None
    """None: every type that the caller's scopes reach."""
    since: datetime | None = None
    """Only what was changed after it."""
    until: datetime | None = None
    """Only what was changed before it."""
    filters: tuple[Pair, ...] = ()
    """(type, query): of a type that has any, only what fulfils one of them."""
    elements: str | None = None
    patients: tuple[str, ...] = ()
    """Ids of the Patients whose records alone are wanted; none: everybody's of the level."""
    notes: tuple[str, ...] = ()
    """What was asked for and is left out, and why."""

    @property
    def subset(self) -> Subset | None:
        """The part of each resource that is wanted; None: all of it."""
        return read_subset(None, self.elements)

    def queries(self, resource_type: str, base_url: str) -> tuple[SearchQuery, ...]:
        """The filters of a type, parsed; they were when they were asked for, and cannot fail."""
        return tuple(_query(kind, text, base_url) for kind, text in self.filters if kind == resource_type)

    def saved(self) -> dict[str, Any]:
        """As JSON; ``restore`` gives the same question back."""
        return {
            "level": self.level,
            "types": self.types,
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
            "filters": self.filters,
            "elements": self.elements,
            "patients": self.patients,
            "notes": self.notes,
        }

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> "ExportQuestion":
        return cls(
            level=saved["level"],
            types=None if saved["types"] is None else tuple(saved["types"]),
            since=datetime.fromisoformat(saved["since"]) if saved["since"] else None,
            until=datetime.fromisoformat(saved["until"]) if saved["until"] else None,
            filters=tuple((kind, text) for kind, text in saved["filters"]),
            elements=saved["elements"],
            patients=tuple(saved["patients"]),
            notes=tuple(saved["notes"]),
        )


def read_export(
    level: Level, pairs: Sequence[Pair], *, lenient: bool, base_url: str, posted: bool = False
) -> ExportQuestion:
    """The question of decoded (name, value) pairs. ``posted``: they may name patients.

    Raises InvalidInput, TooCostly and, unless lenient, UnsupportedInput.
    """
    reading = _Reading(level, lenient, base_url, posted)
    for name, value in pairs:
        reading.take(name, value)
    return reading.question()


def pairs_of_parameters(body: Mapping[str, Any]) -> list[Pair]:
    """The parameters of a Parameters resource as (name, value). Raises InvalidInput."""
    parts = body.get("parameter", [])
    return [_pair(part) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _pair(part: Mapping[str, Any]) -> Pair:
    name = str(part.get("name", ""))
    values = [value for member, value in part.items() if member.startswith("value")]
    match values:
        case [str(text)]:
            return name, text
        case [bool(flag)]:
            return name, "true" if flag else "false"
        case [{"reference": str(reference)}]:
            return name, reference
    raise InvalidInput(name[:64], "one value is needed: a string, code, instant, boolean or reference.")


@dataclass(slots=True)
class _Reading:
    """A question half read."""

    level: Level
    lenient: bool
    base_url: str
    posted: bool
    once: dict[str, str] = field(default_factory=dict)
    types: list[str] = field(default_factory=list)
    typed: bool = False
    filters: list[Pair] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, name: str, value: str) -> None:
        match name:
            case "_outputFormat" | "_since" | "_until":
                if name in self.once:
                    raise InvalidInput(name, "it may be given once only.")
                self.once[name] = value
            case "_type":
                self._types(value)
            case "_typeFilter":
                self.filters += [(kind, text) for kind, text in map(_split, _NEXT_FILTER.split(value))]
            case "_elements":
                self.elements.append(value)
            case "patient" if self.posted and self.level != "system":
                self._patient(value)
            case "patient":
                self._unsupported(name, "it is asked by POST, of patients or a group.")
            case _ if name not in _PRESENTATION:
                self._unsupported(name[:64], "it is not supported here.")

    def _types(self, value: str) -> None:
        self.typed = True
        for one in filter(None, (text.strip() for text in value.split(","))):
            if one in exportable(self.level):
                self.types.append(one)
            elif one in RESOURCE_TYPES:
                where = "at all" if one in KEPT_APART else "with patients: it is not in their compartment"
                self._unsupported("_type", f"{one} is not exported {where}.")
            else:
                self._unsupported("_type", f"{one[:64]} is not a resource type of FHIR R4.")

    def _patient(self, value: str) -> None:
        reference = read_reference(value, self.base_url)
        if reference.where != "here" or reference.type != "Patient":
            raise InvalidInput("patient", "a reference to a Patient here is needed.")
        self.patients.append(reference.id)

    def _unsupported(self, name: str, reason: str) -> None:
        error = UnsupportedInput(name, reason)
        if not self.lenient:
            raise error
        self.notes.append(f"{error} It was left out.")

    def question(self) -> ExportQuestion:
        self._format(self.once.get("_outputFormat", NDJSON))
        types = tuple(sorted(set(self.types))) if self.typed else None
        if types == ():
            raise InvalidInput("_type", "nothing is left to export.")
        if len(self.patients) > MOST_PATIENTS:
            raise TooCostly(f"At most {MOST_PATIENTS} patients can be named.")
        if len(self.filters) > _MOST_FILTERS:
            raise TooCostly(f"At most {_MOST_FILTERS} filters can be asked at once.")
        for kind, text in self.filters:
            self._filter(kind, text, exportable(self.level) if types is None else types)
        elements = ",".join(self.elements) or None
        read_subset(None, elements)
        return ExportQuestion(
            self.level,
            types,
            since=_moment("_since", self.once.get("_since")),
            until=_moment("_until", self.once.get("_until")),
            filters=tuple(self.filters),
            elements=elements,
            patients=tuple(dict.fromkeys(self.patients)),
            notes=tuple(dict.fromkeys(self.notes)),
        )

    def _format(self, value: str) -> None:
        # In a query a ``+`` that was not escaped arrives as a space.
        if value.strip().replace(" ", "+") not in FORMATS:
            raise InvalidInput("_outputFormat", f"{NDJSON} alone is written.")

    def _filter(self, kind: str, text: str, types: Iterable[str]) -> None:
        if kind not in types:
            raise InvalidInput("_typeFilter", f"{kind[:64]} is not among the types to export.")
        query = _query(kind, text, self.base_url)
        shaping = _SHAPING & {name.partition(":")[0] for name, _ in query.used_pairs}
        if not query.criteria or query.ignored or shaping:
            raise InvalidInput("_typeFilter", "it takes criteria, and nothing that shapes an answer.")


def _split(text: str) -> Pair:
    kind, _, query = text.partition("?")
    return kind.strip(), query


def _query(resource_type: str, text: str, base_url: str) -> SearchQuery:
    """``text`` as the query of a search. A ``+`` in it is one: it was decoded once already."""
    try:
        pairs = parse_qsl(
            text.replace("+", "%2B"), keep_blank_values=True, errors="strict", max_num_fields=100
        )
        return parse_search(resource_type, pairs, strict=True, base_url=base_url)
    except TooCostly:
        raise
    except CandourError as error:
        raise InvalidInput("_typeFilter", str(error)) from error
    except ValueError as error:
        raise InvalidInput("_typeFilter", "it cannot be read as a search.") from error


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    text = text.strip().replace(" ", "+")
    if not _INSTANT.fullmatch(text):
        raise InvalidInput(name, "an instant with its offset is needed, such as 2026-11-24T10:00:00Z.")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(name, "there is no such instant.") from error


# Groups.


def group_members(group: Mapping[str, Any], base_url: str) -> tuple[str, ...]:
    """Ids of the Patients here that are members of a Group, without those marked inactive."""
    members = (one for one in group.get("member", ()) if one.get("inactive") is not True)
    references = (one.get("entity", {}).get("reference") for one in members)
    found = (read_reference(one, base_url) for one in references if isinstance(one, str))
    return tuple(dict.fromkeys(one.id for one in found if one.where == "here" and one.type == "Patient"))


# What is answered.


@dataclass(frozen=True, slots=True)
class File:
    """One line of the manifest."""

    type: str
    url: str


def export_manifest(
    *, at: datetime, request: str, output: Sequence[File], deleted: Sequence[File], error: Sequence[File]
) -> str:
    """The body of a complete export's status. No file tells its ``count``: what was withheld since would show."""
    return json.dumps(
        {
            "transactionTime": instant(at),
            "request": request,
            "requiresAccessToken": True,
            "output": [_file(one) for one in output],
            "deleted": [_file(one) for one in deleted],
            "error": [_file(one) for one in error],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _file(one: File) -> dict[str, str]:
    return {"type": one.type, "url": one.url}


def line(content: str) -> str:
    """A resource's text as one line of NDJSON: without line breaks, which stand between tokens alone (RFC 8259, 7)."""
    return content.replace("\r", "").replace("\n", "") + "\n"


def deletions(references: Sequence[str]) -> str:
    """The line that tells of deleted resources: a transaction that would delete them (``Type/id`` each)."""
    entries = [{"request": {"method": "DELETE", "url": one}} for one in references]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return json.dumps(bundle, separators=(",", ":")) + "\n"


def noted(notes: Sequence[str]) -> str:
    """A line for each thing that was asked for and left out."""
    return "".join(
        json.dumps(
            {
                "resourceType": "OperationOutcome",
                "issue": [
                    {
                        "severity": "warning",
                        "code": "not-supported",
                        "details": {"text": one},
                        "diagnostics": one,
                    }
                ],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        + "\n"
        for one in notes
    )
