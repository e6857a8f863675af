"""What is recorded before anything leaves: one entry for every person whom an answer is about (ARCHITECTURE 3.3)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from app.asked import Asked, Whose, entry_for, entry_of_nobody, refusal_in_words
from app.audit.entry import Disclosed, Entry, Interaction, Outcome, Receipt
from app.consent.decision import Decision
from app.disclosure.gate import Gate, Reading
from app.disclosure.matches import Match
from app.errors import CandourError
from app.fhir.manifest import SourceLine
from app.records import reading
from app.records.reading import Record
from app.vocabulary import PatientIdentity, Request

SERVED = "Served."

_Owner = Whose | PatientIdentity
_Shared = tuple[Disclosed, Sequence[int]]
"""What was released, and the keys of the Patients it is about where they are several."""


class Recording:
    """Writes the entries of a request, and gives the receipts without which nothing leaves."""

    def __init__(self, at: Reading, gate: Gate) -> None:
        self._at = at
        self._gate = gate

    async def refuse(self, asked: Asked, error: CandourError, *, outcome: Outcome = "4") -> None:
        """Records that the request was refused, and why, before the refusal leaves."""
        await self.told(asked, refusal_in_words(error), None, outcome=outcome)

    async def turn_away(self, request: Request, interaction: Interaction, error: CandourError) -> None:
        """Records that somebody asked who showed no valid token."""
        await self._at.audit.record([entry_of_nobody(request, interaction, refusal_in_words(error))])

    async def told(
        self, asked: Asked, description: str, decision: Decision | None, *, outcome: Outcome = "0"
    ) -> Sequence[Receipt]:
        """Of a request in which no record leaves."""
        return await self._record(
            asked, [entry_for(asked, outcome, description, decision=decision, whose=asked.whose)]
        )

    async def records(
        self, asked: Asked, records: Sequence[Record], decision: Decision | None
    ) -> Sequence[Receipt]:
        """Of versions of one record, which is ``asked.whose`` or nobody's."""
        entry = entry_for(
            asked,
            "0",
            SERVED,
            resources=[disclosed(one) for one in records],
            decision=decision,
            whose=asked.whose,
        )
        told = {asked.whose.person} if asked.whose else set()
        shared = [(disclosed(one), one.all_patients) for one in records if one.also_patients]
        return await self._record(asked, [entry, *await self._entries_of_others(asked, shared, told)])

    async def matches(
        self,
        asked: Asked,
        matches: Sequence[Match],
        decision: Decision | None = None,
        lines: Sequence[SourceLine] = (),
    ) -> Sequence[Receipt]:
        """Of an answer to a search: an entry for each person. What is nobody's stands with whom was asked about.

        The person asked about has an entry also when nothing leaves; without one, an empty answer is nobody's.
        """
        people: dict[int | None, tuple[_Owner | None, Decision | None, list[Disclosed]]] = {}
        about = asked.whose.person if asked.whose else None
        if asked.whose is not None or not matches:
            people[about] = (asked.whose, decision, [])
        for match in matches:
            person = match.owner.person if match.owner else about
            people.setdefault(person, (match.owner, match.decision, []))[2].append(match.disclosed)
        entries = [
            entry_for(
                asked,
                "0",
                SERVED,
                resources=resources,
                decision=decided,
                lines=lines if person == about else (),
                whose=owner,
            )
            for person, (owner, decided, resources) in people.items()
        ]
        told = {person for person in people if person is not None}
        shared = [(one.disclosed, one.patients) for one in matches if one.patients]
        return await self._record(asked, [*entries, *await self._entries_of_others(asked, shared, told)])

    async def _record(self, asked: Asked, entries: Sequence[Entry]) -> Sequence[Receipt]:
        receipts = await self._at.audit.record(entries)
        asked.recorded = True
        return receipts

    async def _entries_of_others(
        self, asked: Asked, shared: Sequence[_Shared], told: Collection[int]
    ) -> list[Entry]:
        """An entry for everybody else whom something released is about; ``told`` are persons who have theirs."""
        if not shared:
            return []
        people = await reading.whose(self._at.database, [key for _, keys in shared for key in keys])
        theirs: dict[int, tuple[Whose, dict[str, Disclosed]]] = {}
        for one, keys in shared:
            for key in keys:
                if key in people and people[key].person not in told:
                    theirs.setdefault(people[key].person, (people[key], {}))[1][one.reference] = one
        return [
            entry_for(
                asked,
                "0",
                SERVED,
                resources=tuple(resources.values()),
                decision=await self._gate.decide_quietly(asked, whose),
                whose=whose,
            )
            for whose, resources in theirs.values()
        ]


def disclosed(record: Record) -> Disclosed:
    return Disclosed(record.reference, ())
