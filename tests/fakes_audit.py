"""An audit log in memory that keeps the promises of the real one, and entries to put into it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from app.audit import merkle
from app.audit.entry import (
    NO_LINK,
    Disclosed,
    Entry,
    Interaction,
    Receipt,
    instant,
    leaf_bytes,
    link_bytes,
    link_commitment,
    milliseconds,
)
from app.audit.event import NodeNames
from app.audit.log import Logged
from app.audit.packing import unpack
from app.audit.sequence import Prepared, prepare
from app.errors import AuditUnavailable
from app.vocabulary import Caller, NhsNumber, OdsCode, PatientKey, PersonKey, PurposeOfUse, Request

NOON = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)

NODE = NodeNames(
    site_ods="RX1",
    observer_system="urn:ietf:rfc:3986",
    observer_value="https://candour.rx1.example",
    base_url="https://candour.rx1.example/fhir",
)

CALLER = Caller(
    subject="dr-khan",
    client_id="ward-app",
    organisation=OdsCode("RX1"),
    organisation_name="Royal X",
    purpose=PurposeOfUse.TREAT,
    scopes=("system/Observation.rs",),
    token_id="jti-1",
    expires_at=NOON + timedelta(minutes=5),
    name="Dr A. Khan",
    roles=("http://snomed.info/sct|309943004",),
    practitioner="https://fhir.hl7.org.uk/Id/gmc-number|1234567",
    issuer="https://candour.rx1.example",
)

REQUEST = Request(
    trace_id="0af7651916cd43dd8448eb211c80319c",
    request_id="ward-app-77",
    at=NOON,
    method="GET",
    target="/fhir/Observation/hb",
    client_address="10.1.2.3",
    base_url="https://candour.rx1.example/fhir",
)


def an_entry(**changes: Any) -> Entry:
    """A permitted read of one Observation, unless ``changes`` say otherwise; a new id each time."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "interaction": Interaction.READ,
        "outcome": "0",
        "description": "Observation/hb was read.",
        "request": REQUEST,
        "caller": CALLER,
        "patient_key": PatientKey(1),
        "person_key": PersonKey(1),
        "patient_reference": "Patient/p1",
        "nhs_number": NhsNumber("9434765919"),
        "resources": (Disclosed("Observation/hb/_history/1"),),
        "basis": ("Consent/c1/_history/2",),
        "decision_id": "d-1",
        "sources": ("RX1 fresh",),
    }
    return Entry(**(values | changes))


class FixedClock:
    """Stands still until it is moved."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


class AuditLogInMemory:
    """``broken``: nothing can be recorded. ``entries`` is what was kept, in order."""

    def __init__(self, node: NodeNames = NODE, clock: FixedClock | None = None) -> None:
        self.entries: list[Entry] = []
        self.broken = False
        self._node = node
        self._clock = clock or FixedClock()
        self._prepared: list[Prepared] = []
        self._receipts: dict[UUID, Receipt] = {}
        self._chains: dict[int, tuple[int, bytes]] = {}
        self._last_time = 0

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def record(self, entries: Sequence[Entry]) -> Sequence[Receipt]:
        if self.broken:
            raise AuditUnavailable
        now = self._clock.now()
        self._last_time = max(milliseconds(now), self._last_time + 1)
        for entry in entries:
            if entry.id not in self._receipts:
                self._receipts[entry.id] = self._add(entry, now)
        return [self._receipts[entry.id] for entry in entries]

    async def append(self, connection: object, entries: Sequence[Entry]) -> Sequence[Receipt]:
        return await self.record(entries)

    async def events(
        self,
        patient: Sequence[PatientKey],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Logged]:
        everything = [self._logged(index) for index in range(len(self._prepared))]
        return [
            one
            for one in reversed(everything)
            if one.patient_key in patient
            and (since is None or one.recorded >= since)
            and (until is None or one.recorded < until)
            and (before is None or one.index < before)
        ][:limit]

    async def event(self, entry_id: UUID) -> Logged | None:
        receipt = self._receipts.get(entry_id)
        return None if receipt is None else self._logged(receipt.index)

    def _add(self, entry: Entry, now: datetime) -> Receipt:
        one = prepare(entry, node=self._node, recorded=now)
        key = one.patient_key
        number, previous = self._chains.get(key, (0, NO_LINK)) if key else (-1, NO_LINK)
        record = link_bytes(body=one.commitment, previous=previous, number=number + 1)
        link = link_commitment(one.link_salt, record)
        if key:
            self._chains[key] = (number + 1, link)
        leaf = leaf_bytes(
            entry_id=entry.id,
            time=self._last_time,
            kind=entry.interaction.kind,
            outcome=entry.outcome,
            body=one.commitment,
            link=link,
        )
        self.entries.append(entry)
        self._prepared.append(one)
        index = len(self._prepared) - 1
        return Receipt(index, entry.id, merkle.leaf_hash(leaf), instant(self._last_time))

    def _logged(self, index: int) -> Logged:
        one = self._prepared[index]
        return Logged(index, one.entry.id, one.recorded, PatientKey(one.patient_key), unpack(one.packed))
