"""THE READ: resolve, decide, gather, withhold, record, release.

Every public method either returns a Release, which carries the receipt of its durable audit entries, or raises after
the refusal has been recorded: every answered request to a patient's data leaves exactly one entry per patient
(ARCHITECTURE 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.asked import Asked, Release, accounted
from app.audit.entry import Interaction, Outcome
from app.consent.decision import TRUE
from app.disclosure.answers import Answers
from app.disclosure.documents import Documents
from app.disclosure.everything import Everything
from app.disclosure.exporting import Exporting
from app.disclosure.finding import Finding
from app.disclosure.gate import Gate, Reading
from app.disclosure.histories import Histories
from app.disclosure.inclusion import Inclusion
from app.disclosure.instances import Instances
from app.disclosure.links import binding
from app.disclosure.lookups import Lookups
from app.disclosure.recording import SERVED, Recording
from app.disclosure.searches import Searches
from app.disclosure.sources import Sources
from app.disclosure.supporting import Supporting
from app.errors import CandourError, Gone, InsufficientScope, NotFound, NotPermitted
from app.fhir import bundle, criteria
from app.fhir.compartments import in_patient_compartment
from app.fhir.extent import Extent
from app.fhir.history import HistoryWindow
from app.fhir.query import SearchQuery
from app.fhir.several import SeveralQuery
from app.fhir.text import parse
from app.records import searching, versions
from app.records.searching import Question, Sort
from app.smart import scopes
from app.vocabulary import Request

__all__ = ["Disclosure", "Reading"]

_MOST_DEFINITIONS = 500


class Disclosure:
    """The use cases that let records leave."""

    def __init__(self, reading: Reading) -> None:
        self._at = reading
        gate = self._gate = Gate(reading)
        recording = self._recording = Recording(reading, gate)
        self._instances = Instances(reading, gate, recording)
        self._histories = Histories(reading, gate, recording)
        finding = Finding(reading, gate)
        lookups, inclusion = Lookups(gate, finding), Inclusion(gate, finding)
        answers = Answers(reading, gate, finding, lookups, inclusion, recording)
        sources = Sources(reading, gate)
        self._searches = Searches(reading, gate, finding, lookups, answers, sources)
        supporting = Supporting(finding)
        self._everything = Everything(gate, finding, supporting, sources, answers)
        self._documents = Documents(reading, gate, finding, supporting, recording)
        self.exporting = Exporting(reading, gate, finding, lookups, recording)

    # One record.

    @accounted
    async def read(
        self,
        asked: Asked,
        resource_type: str,
        id: str,
        *,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
    ) -> Release:
        """The current version, or NotFound, or Gone. What is withheld is NotFound like what never was."""
        return await self._instances.read(
            asked, resource_type, id, if_none_match=if_none_match, if_modified_since=if_modified_since
        )

    async def seen(self, asked: Asked, resource_type: str, id: str) -> int:
        """The version that the caller may read now, for a write that depends on it: nothing is released or recorded.

        Raises NotFound, Gone or InsufficientScope, as a read would.
        """
        found, _ = await self._gate.visible(asked, resource_type, id)
        if found.record.deleted:
            raise Gone
        return found.record.version

    @accounted
    async def vread(self, asked: Asked, resource_type: str, id: str, version: str) -> Release:
        """One version. It must be releasable itself, and so must the current one: the stricter of both counts."""
        return await self._instances.vread(asked, resource_type, id, version)

    @accounted
    async def history(
        self, asked: Asked, resource_type: str, id: str, window: HistoryWindow, *, count: int | None = None
    ) -> Release:
        """The versions of ``window`` that may be released, newest first."""
        return await self._instances.history(asked, resource_type, id, window, count=count)

    # Many records.

    @accounted
    async def history_of_types(
        self, asked: Asked, resource_type: str | None, window: HistoryWindow, *, count: int
    ) -> Release:
        """A page of the versions of a type that may be released, newest first; None: of every type in scope."""
        return await self._histories.of_types(asked, resource_type, window, count=count)

    @accounted
    async def search(self, asked: Asked, query: SearchQuery) -> Release:
        """A page of what matches; bound to one patient it is asked of every source that may hold something."""
        return await self._searches.search(asked, query)

    @accounted
    async def search_several(self, asked: Asked, several: SeveralQuery) -> Release:
        """A page of what matches among several types, or in a whole compartment."""
        return await self._searches.several(asked, several)

    @accounted
    async def everything(self, asked: Asked, patient_id: str, extent: Extent) -> Release:
        """Patient/[id]/$everything, from every source (R4 patient-operation-everything)."""
        return await self._everything.of_patient(asked, patient_id, extent)

    @accounted
    async def everything_of_encounter(self, asked: Asked, id: str, extent: Extent) -> Release:
        """Encounter/[id]/$everything (R4 encounter-operation-everything)."""
        return await self._everything.of_encounter(asked, id, extent)

    @accounted
    async def last_of_each(self, asked: Asked, query: SearchQuery, address: str, *, most: int) -> Release:
        """Observation/$lastn of a query that names one patient; ``address``: the ``self`` link of the answer."""
        return await self._searches.last_of_each(asked, query, address, most=most)

    @accounted
    async def document(self, asked: Asked, id: str) -> Release:
        """Composition/[id]/$document: a Bundle of type document."""
        return await self._documents.of_composition(asked, id)

    @accounted
    async def next_page(self, asked: Asked, sealed: str) -> Release:
        """A page after the first. The link must be this caller's; the decision is made again."""
        position = self._at.seal.open(sealed, bound_to=binding(asked.caller))
        if position["kind"] == "frozen":
            return await self._searches.page(asked, position)
        asked.interaction = Interaction.HISTORY
        if position["kind"] == "histories":
            return await self._histories.of_types(
                asked,
                position["type"],
                HistoryWindow.restore(position),
                count=position["count"],
                after=versions.restored(position["after"]),
            )
        return await self._instances.history(
            asked,
            position["type"],
            position["id"],
            HistoryWindow.restore(position),
            count=position["count"],
            before=position["before"],
        )

    @accounted
    async def audit_events(self, asked: Asked, patient_id: str, *, count: int, before: int | None) -> Release:
        """Who looked at a person's record: for a custodian who keeps one of it, under a scope that names AuditEvent."""
        self._gate.may(asked, "AuditEvent", "s")
        who = await self._gate.who(asked, patient_id)
        keepers = {one.custodian for one in who.identity.local} if who else set()
        if who is None or asked.caller.organisation not in keepers:
            raise NotPermitted("Only a custodian of the patient's record reads its audit trail.")
        # The reading is itself an access: recorded first, so that it stands in the trail it returns.
        receipts = await self._recording.told(asked, "The audit trail was read.", None)
        keys = [one.key for one in who.identity.local]
        found = await self._at.log.events(keys, limit=count + 1, before=before)
        return Release(_audit_bundle(asked, patient_id, found, count), receipts)

    @accounted
    async def of_nobody(self, asked: Asked, resource_type: str, text: str, *, letters: str = "s") -> Release:
        """An answer made of definitions alone, which holds nothing of anybody: recorded all the same.

        By whoever has a scope for the type with one of ``letters``.
        """
        if not any(scopes.permits(asked.caller.scopes, resource_type, letter) for letter in letters):
            raise InsufficientScope(scopes.suffices(resource_type, letters[-1]))
        await self._gate.known(asked)
        receipts = await self._recording.told(asked, SERVED, None)
        return Release(text, receipts)

    async def definitions(self, resource_type: str, urls: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Definitions kept here by their canonical URL, for the service's own use; of several, the latest written.

        ``resource_type`` is one of nobody's records (StructureDefinition, ValueSet …).
        """
        if in_patient_compartment(resource_type):
            raise NotFound
        if not urls:
            return {}
        question = Question(
            resource_type, None, (criteria.uri("url", urls),), TRUE, Sort(descending=False), _MOST_DEFINITIONS
        )
        page = await searching.search(self._at.database, question)
        found = (parse(row.record.content).value for row in page.rows)
        return {one["url"]: one for one in found if one.get("url") in urls}

    # Recording, for those that answer before a use case is reached.

    async def refuse(self, asked: Asked, error: CandourError, *, outcome: Outcome = "4") -> None:
        """Records that the request was refused, and why, before the refusal leaves."""
        await self._recording.refuse(asked, error, outcome=outcome)

    async def turn_away(self, request: Request, interaction: Interaction, error: CandourError) -> None:
        """Records that somebody asked who showed no valid token."""
        await self._recording.turn_away(request, interaction, error)


def _audit_bundle(asked: Asked, patient_id: str, found: Sequence[Any], count: int) -> str:
    base = asked.request.base_url
    shown = found[:count]
    links = [("self", f"{base}/AuditEvent?patient=Patient/{patient_id}")]
    if len(found) > count:
        links.append(
            (
                "next",
                f"{base}/AuditEvent?patient=Patient/{patient_id}&_count={count}&_before={shown[-1].index}",
            )
        )
    entries = [bundle.Entry(f"{base}/AuditEvent/{one.entry_id}", one.body.decode()) for one in shown]
    return bundle.searchset(entries, links=links, total=None, outcome=None)
