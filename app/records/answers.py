"""What a source answered, read with suspicion: nothing here does I/O (notes 6.1 step 8, 6.4).

Every resource's text is cut out of the answer byte for byte, after the answer was found to be about the person who
was asked for and about nobody else.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

from app.errors import BusinessRule, InvalidResource, MalformedBody
from app.fhir.binaries import stands_for
from app.fhir.compartments import in_patient_compartment, patients_of
from app.fhir.findings import MOST_ISSUES
from app.fhir.manifest import tells_a_gap
from app.fhir.text import array_item_spans, member_spans, parse
from app.fhir.validation import validate
from app.records.sources import KnownPatients
from app.records.unanswered import Down, IdentityUncertain, WrongPatient
from app.vocabulary import NhsNumber, OdsCode

MOST_ENTRIES: Final = 2_000

_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_SEARCHSETS: Final = ("searchset", "collection")


@dataclass(frozen=True, slots=True)
class RemoteRecord:
    """One resource as its custodian wrote it. ``content`` is the text that leaves, ``body`` is to look at."""

    custodian: OdsCode
    resource_type: str
    id: str
    version: str
    """``meta.versionId``, empty when the source gives none."""
    last_updated: str
    """``meta.lastUpdated``, an instant with its offset, or empty."""
    content: str
    full_url: str
    body: dict[str, Any]

    @property
    def reference(self) -> str:
        return f"{self.resource_type}/{self.id}"


@dataclass(frozen=True, slots=True)
class Page:
    """One Bundle of an answer: its matches in order, where it goes on, and whether it is known to lack something."""

    records: tuple[RemoteRecord, ...]
    next_url: str | None
    self_url: str | None
    gap: bool


def read_page(body: bytes, *, custodian: OdsCode, base_url: str, asked_type: str | None) -> Page:
    """A searchset as a page. Raises Down when it is none, or holds matches of another type than ``asked_type``.

    ``asked_type`` None is ``$everything``, where included resources are part of what was asked for. An entry
    that is not of R4's structure is left out, which is a gap.
    """
    try:
        parsed = parse(body)
    except MalformedBody as error:
        raise Down("the answer is not JSON") from error
    if parsed.value.get("resourceType") != "Bundle" or parsed.value.get("type") not in _SEARCHSETS:
        raise Down("the answer is not a searchset")
    entries = parsed.value.get("entry", [])
    if not isinstance(entries, list):
        raise Down("Bundle.entry is not an array")
    gap, records = len(entries) > MOST_ENTRIES, list[RemoteRecord]()
    texts = _entry_texts(parsed.text) if entries else []
    for entry, text in zip(entries[:MOST_ENTRIES], texts[:MOST_ENTRIES], strict=True):
        kind = _mode(entry)
        if kind == "outcome":
            gap = gap or tells_a_gap(entry["resource"])
        elif kind == "match" or (kind == "include" and asked_type is None):
            record = _record(entry["resource"], text, custodian, base_url, asked_type)
            gap = gap or record is None
            records += [record] if record else []
        elif kind != "include":
            gap = True
    links = _links(parsed.value)
    return Page(tuple(records), links.get("next"), links.get("self"), gap)


def _entry_texts(text: str) -> list[str]:
    """The text of each entry's resource, empty where an entry has none."""
    start = member_spans(text)["entry"][0]
    return [_resource_text(text, begin) for begin, _ in array_item_spans(text, start)]


def _resource_text(text: str, start: int) -> str:
    if text[start] != "{":
        return ""
    spans = member_spans(text, start)
    return text[slice(*spans["resource"])] if "resource" in spans else ""


def _mode(entry: Any) -> str:
    """``match``, ``include``, ``outcome``, or ``broken``. An OperationOutcome is an outcome whatever it is called."""
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(resource, dict):
        return "broken"
    if resource.get("resourceType") == "OperationOutcome":
        return "outcome"
    search = entry.get("search", {})
    mode = search.get("mode", "match") if isinstance(search, dict) else "broken"
    return mode if mode in ("match", "include") else "broken"


def _record(
    body: dict[str, Any], text: str, custodian: OdsCode, base_url: str, asked_type: str | None
) -> RemoteRecord | None:
    """None for what is not of R4's structure: neither consent nor a reader could tell what it says."""
    kind, id = body.get("resourceType"), body.get("id")
    if asked_type is not None and kind != asked_type:
        raise Down("a match is of another type than was asked for")
    if not isinstance(id, str) or not _ID.fullmatch(id) or not _has_structure(body):
        return None
    meta = body.get("meta", {})
    version = str(meta.get("versionId", ""))
    return RemoteRecord(
        custodian=custodian,
        resource_type=str(kind),
        id=id,
        version=version if _ID.fullmatch(version) else "",
        last_updated=_instant(str(meta.get("lastUpdated", ""))),
        content=text,
        full_url=f"{base_url}/{kind}/{id}",
        body=body,
    )


def _has_structure(body: dict[str, Any]) -> bool:
    """Other rules of R4 may be broken: a missing code is the custodian's business, and still worth reading."""
    try:
        validate(body)
    except InvalidResource as error:
        few = len(error.issues) < MOST_ISSUES  # when there are as many as are ever told, more went untold
        return few and all(issue.code != "structure" for issue in error.issues)
    return True


def _instant(text: str) -> str:
    try:
        return text if datetime.fromisoformat(text).tzinfo else ""
    except ValueError:
        return ""


def _links(value: Mapping[str, Any]) -> dict[str, str]:
    links = value.get("link", [])
    return {
        str(link.get("relation")): str(link.get("url"))
        for link in (links if isinstance(links, list) else ())
        if isinstance(link, dict)
    }


# Whose it is.


def people(
    patients: Sequence[RemoteRecord],
    *,
    number: NhsNumber,
    system: str,
    birth_date: str | None,
    linked_count_as_asked: bool,
) -> KnownPatients:
    """Who ``Patient?identifier=`` found. Raises WrongPatient when one of them does not carry the number.

    A number whose verification is denied, or another date of birth, makes a Patient uncertain: it is left out, and
    IdentityUncertain is raised when nobody is left. Nobody at all is an empty answer. With
    ``linked_count_as_asked`` a Patient that another one links to need not be asked for by itself.
    """
    if any(not _carries(patient.body, number, system) for patient in patients):
        raise WrongPatient("a Patient without the number asked for")
    certain = [one for one in patients if _is_certain(one.body, number, system, birth_date)]
    if patients and not certain:
        raise IdentityUncertain("no Patient with a verified number and the same date of birth")
    every = frozenset(one.id for one in certain)
    asked: list[str] = []
    reached: set[str] = set()
    for patient in sorted(certain, key=lambda one: one.id):
        if patient.id not in reached:
            asked.append(patient.id)
            reached |= {patient.id} | (_linked(patient.body) if linked_count_as_asked else set())
    return KnownPatients(tuple(asked), every)


def _identifiers(body: Mapping[str, Any], number: NhsNumber, system: str) -> list[Mapping[str, Any]]:
    return [
        one
        for one in body.get("identifier", ())
        if one.get("system") == system and re.sub(r"[\s-]", "", str(one.get("value", ""))) == number.digits
    ]


def _carries(body: Mapping[str, Any], number: NhsNumber, system: str) -> bool:
    return bool(_identifiers(body, number, system))


def _is_certain(body: Mapping[str, Any], number: NhsNumber, system: str, birth_date: str | None) -> bool:
    born = body.get("birthDate")
    if birth_date is not None and born is not None and born != birth_date:
        return False
    return any(one.get("use") != "old" and _is_verified(one) for one in _identifiers(body, number, system))


_VERIFICATION: Final = "Extension-UKCore-NHSNumberVerificationStatus"
_VERIFIED: Final = ("01", "number-present-and-verified")


def _is_verified(identifier: Mapping[str, Any]) -> bool:
    """No status at all counts as verified: only the UK's profiles have one."""
    for extension in identifier.get("extension", ()):
        if str(extension.get("url", "")).endswith(_VERIFICATION):
            codings = extension.get("valueCodeableConcept", {}).get("coding", ())
            return any(coding.get("code") in _VERIFIED for coding in codings)
    return True


def _linked(body: Mapping[str, Any]) -> set[str]:
    references = [str(link.get("other", {}).get("reference", "")) for link in body.get("link", ())]
    return {
        reference.removeprefix("Patient/") for reference in references if reference.startswith("Patient/")
    }


def strangers(records: Iterable[RemoteRecord], every: Collection[str], *, base_url: str) -> set[str]:
    """Ids of the Patients, other than ``every``, in whose compartments the records are."""
    found: set[str] = set()
    for record in records:
        found.update(patients_of(record.body, base_url).patients)
    return found.difference(every)


def about_the_person(
    records: Iterable[RemoteRecord],
    every: Collection[str],
    *,
    base_url: str,
    asked_type: str | None,
    hidden: Collection[str] = (),
) -> tuple[tuple[RemoteRecord, ...], bool]:
    """The records that are about the person or about nobody, each once, and whether one had to be left out.

    Raises WrongPatient when one is in the compartment of a Patient that is not among ``every``, or refers to a
    patient in a way that does not tell whom, or matched a search by patient and has none. In ``$everything`` the
    last is left out instead: it may be an element that was lost on the way. So are bytes that do not say to be the
    person's, and what is in the compartment of one of the ``hidden`` Patients, who can be neither verified nor held
    against the source.
    """
    kept: dict[str, RemoteRecord] = {}
    gap = False
    for record in records:
        membership = patients_of(record.body, base_url)
        others = set(membership.patients).difference(every)
        if membership.unresolved or not others <= set(hidden):
            raise WrongPatient(f"{record.resource_type} of somebody else")
        nobodys = not membership.patients and in_patient_compartment(record.resource_type)
        if nobodys and asked_type is not None:
            raise WrongPatient(f"{record.resource_type} of nobody")
        if nobodys or others or not _tells_whose_bytes(record, every, base_url):
            gap = True
        else:
            kept.setdefault(record.reference, record)
    return tuple(kept.values()), gap


def _tells_whose_bytes(record: RemoteRecord, every: Collection[str], base_url: str) -> bool:
    """Of a Binary only what says to be the person's own: a document that stands for it cannot be decided on here."""
    if record.resource_type != "Binary":
        return True
    try:
        context = stands_for(record.body, base_url)
    except BusinessRule:
        return False
    return context is not None and context in {f"Patient/{id}" for id in every}


# Where an answer goes on.


def within(base_url: str, page_url: str, link: str) -> str | None:
    """``link`` of the page at ``page_url`` as an absolute address, None unless it stays below ``base_url``.

    The same scheme, host and port; no credentials, no dot segments, escaped or not; so the token we send along
    reaches nobody else.
    """
    try:
        target = urljoin(page_url, link)
        base, there = urlsplit(base_url), urlsplit(target)
        same_origin = _origin(base_url) == _origin(target)
    except ValueError:
        return None
    path = unquote(there.path)
    hidden = any(segment in (".", "..") for segment in path.split("/")) or "\\" in path or "%" in path
    below = there.path == base.path or there.path.startswith(base.path + "/")
    printable = re.fullmatch(r"[\x21-\x7e]+", target) is not None
    if not (same_origin and below and printable) or hidden or "@" in there.netloc:
        return None
    return target.partition("#")[0]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def ignored_parameters(self_url: str | None, asked: Iterable[str]) -> bool:
    """Whether the self link, which tells the parameters as used, leaves one out (R4 search, 3.1.1.3)."""
    query = (self_url or "").partition("?")[2].partition("#")[0]
    if not query:
        return False
    used = {name.partition(":")[0] for name, _ in parse_qsl(query, keep_blank_values=True)}
    return any(name.partition(":")[0] not in used for name in asked)
