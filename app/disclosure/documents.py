"""``Composition/[id]/$document``: a Composition with what it refers to (R4 composition-operation-document, documents).

Each resource is read as a single record is. What is withheld is left out, as what does not exist.
"""

from __future__ import annotations

from uuid import uuid4

from app.asked import Asked, Release
from app.disclosure.finding import Finding, Permitted, Within, body_of
from app.disclosure.gate import Gate, Reading
from app.disclosure.recording import Recording
from app.disclosure.supporting import MOST_LOOKED_UP, Supporting
from app.errors import Gone, TooCostly
from app.fhir import bundle
from app.fhir.instants import instant
from app.fhir.references import LiteralReference, references_within

_ELEMENTS = ("subject", "encounter", "author", "attester", "custodian", "event", "section", "contained")
"""Those of a Composition whose targets a document contains; not what it replaces or appends to."""


class Documents:
    """Documents as they are asked for: none is kept."""

    def __init__(
        self, at: Reading, gate: Gate, finding: Finding, supporting: Supporting, recording: Recording
    ) -> None:
        self._at = at
        self._gate = gate
        self._finding = finding
        self._supporting = supporting
        self._recording = recording

    async def of_composition(self, asked: Asked, id: str) -> Release:
        """The Composition, what it names, what that refers to, and the directory behind it; each once."""
        found, decision = await self._gate.visible(asked, "Composition", id)
        if found.record.deleted:
            raise Gone
        composition = Permitted(found.record, found.whose, decision)
        named = await self._named(asked, composition)
        within = Within()
        if found.whose is not None and (who := await self._gate.who(asked, found.whose.patient.id)):
            within = Within.one_person(who.identity, decision)
        needed, issues = await self._supporting.of(asked, named, within, any_type=True)
        if issues:
            raise TooCostly(f"The document would refer to more than {MOST_LOOKED_UP} resources.")
        every = {one.record.reference: one for one in (composition, *named, *needed)}
        matches = [await self._finding.match(asked, one) for one in every.values()]
        receipts = await self._recording.matches(asked, matches, decision)
        text = bundle.document(
            [one.entry(None) for one in matches],
            identifier=uuid4().urn,
            timestamp=instant(self._at.clock.now()),
        )
        return Release(text, receipts)

    async def _named(self, asked: Asked, composition: Permitted) -> list[Permitted]:
        """What the Composition names itself, in its order, in the version that it names."""
        body, base = body_of(composition.record.content), asked.request.base_url
        every = (
            one
            for name in _ELEMENTS
            for one in references_within(body.get(name), base)
            if one.where == "here"
        )
        wanted = {(one.type, one.id, one.version): one for one in every}
        if len(wanted) > MOST_LOOKED_UP:
            raise TooCostly(f"The document would refer to more than {MOST_LOOKED_UP} resources.")
        read = [await self._read(asked, one) for one in wanted.values()]
        return [one for one in read if one is not None]

    async def _read(self, asked: Asked, named: LiteralReference) -> Permitted | None:
        return await self._finding.single(asked, named.type or "", named.id, named.version)
