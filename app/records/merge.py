"""One answer out of many sources: merged, put in order, and frozen for paging (Swiss CH EPR FHIR's rule)."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.audit.entry import Disclosed
from app.consent.decision import Decision
from app.consent.labels import label
from app.db import Database, Statement, metadata
from app.errors import ExpiredCursor
from app.fhir import text
from app.fhir.facets import Facets, facets_of
from app.fhir.indexing import extract
from app.records.federation import Answer
from app.records.reading import Record
from app.records.remote import RemoteRecord
from app.records.searching import Sort
from app.vocabulary import OdsCode, PersonKey

_LIFETIME = timedelta(minutes=60)

result_set = sa.Table(
    "result_set",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("person_key", sa.BigInteger),
    sa.Column("payload", sa.LargeBinary),
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True)),
)

_KEEP = Statement(
    result_set.insert().values(
        id=sa.bindparam("id", type_=sa.Uuid),
        person_key=sa.bindparam("person_key", type_=sa.BigInteger),
        payload=sa.bindparam("payload", type_=sa.LargeBinary),
        expires_at=sa.bindparam("expires_at", type_=sa.TIMESTAMP(timezone=True)),
    )
)
_FIND = Statement(
    sa.select(result_set.c.payload).where(
        result_set.c.id == sa.bindparam("id", type_=sa.Uuid), result_set.c.expires_at > sa.func.now()
    )
)
_EXPIRE = Statement(result_set.delete().where(result_set.c.expires_at < sa.func.now()))


@dataclass(frozen=True, slots=True)
class FrozenEntry:
    """One resource of a merged answer: enough to order, decide, release and record it."""

    resource_type: str
    id: str
    version: str
    custodian: OdsCode
    full_url: str
    content: str
    key: str
    """Sort key as text that orders like the value."""
    patients: tuple[int, ...] = ()
    """Keys of the local Patients that a record of our own is about, where they are several."""

    @classmethod
    def of_record(cls, base: str, record: Record, key: datetime | str, *, content: str) -> "FrozenEntry":
        url = f"{base}/{record.resource_type}/{record.id}"
        return cls(
            record.resource_type,
            record.id,
            str(record.version),
            record.custodian,
            url,
            content,
            _key(key),
            record.all_patients,
        )

    @classmethod
    def of_remote(cls, record: RemoteRecord, key: datetime | str) -> "FrozenEntry":
        return cls(
            record.resource_type,
            record.id,
            record.version,
            record.custodian,
            record.full_url,
            record.content,
            _key(key),
        )

    @property
    def disclosed(self) -> Disclosed:
        reference = f"{self.resource_type}/{self.id}"
        return Disclosed(f"{reference}/_history/{self.version}" if self.version else reference, ())

    def facets(self, base: str) -> Facets:
        """The facets of a frozen text, computed again: a later page is decided again."""
        source = self.full_url.rsplit("/", 2)[0]
        return _labelled(text.parse(self.content).value, self.custodian, source or base)


def _key(key: datetime | str) -> str:
    if isinstance(key, str):
        return key
    return (
        f"{key.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}"
        if key.year > 1
        else "0001"
    )


def merged(
    own: Sequence[FrozenEntry], answers: Iterable[Answer], decision: Decision, sort: Sort | None
) -> list[FrozenEntry]:
    """All that the decision releases, in the order asked for; ids break ties, then custodians.

    Each remote resource is decided here as well, by facets computed from its own text: the stricter end wins.
    """
    remote = [
        FrozenEntry.of_remote(record, _sort_key(record, sort))
        for answer in answers
        for record in answer.records
        if decision.releases(_remote_facets(record))
    ]
    order = sort or Sort("_id", descending=False)
    every = sorted(
        [*own, *remote], key=lambda one: (one.resource_type if sort is None else "", one.id, one.custodian)
    )
    return sorted(every, key=lambda one: one.key, reverse=order.descending)


def _remote_facets(record: RemoteRecord) -> Facets:
    return _labelled(record.body, record.custodian, record.full_url.rsplit("/", 2)[0])


def _labelled(body: dict[str, Any], custodian: OdsCode, base: str) -> Facets:
    """The facets by our own labelling rules: a source that labels nothing is labelled as one of our records is."""
    facets, _ = label(body, facets_of(body, custodian=custodian, base_url=base))
    return facets


def _sort_key(record: RemoteRecord, sort: Sort | None) -> datetime | str:
    if sort is None:
        return record.resource_type
    missing = datetime.min.replace(tzinfo=UTC) if sort.descending else datetime.max.replace(tzinfo=UTC)
    if sort.parameter == "_lastUpdated":
        try:
            return datetime.fromisoformat(record.last_updated)
        except ValueError:
            return missing
    index = extract(record.body, record.full_url.rsplit("/", 2)[0])
    found = [row.lo for row in index.dates if row.parameter == sort.parameter]
    if not found:
        return missing
    return max(found) if sort.descending else min(found)


class ResultSets:
    """Frozen answers. The payload is encrypted under a key that only the page link carries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def freeze(
        self, person: PersonKey, entries: Sequence[FrozenEntry], outcome: str, total: int | None
    ) -> dict[str, Any]:
        """Keeps the answer for an hour; gives what a page link needs to read it back."""
        key, nonce, id = AESGCM.generate_key(256), os.urandom(12), uuid4()
        plain = orjson.dumps(
            {"entries": [_packed(one) for one in entries], "outcome": outcome, "total": total}
        )
        payload = nonce + AESGCM(key).encrypt(nonce, plain, id.bytes)
        await self._database.execute(_EXPIRE)
        await self._database.execute(
            _KEEP, id=id, person_key=person, payload=payload, expires_at=datetime.now(UTC) + _LIFETIME
        )
        return {"set": str(id), "secret": key.hex()}

    async def thaw(self, position: dict[str, Any]) -> tuple[list[FrozenEntry], str, int | None]:
        """The entries, the outcome and the total as they were. Raises ExpiredCursor."""
        id = UUID(position["set"])
        row = await self._database.fetchrow(_FIND, id=id)
        if row is None:
            raise ExpiredCursor
        payload: bytes = row["payload"]
        plain = AESGCM(bytes.fromhex(position["secret"])).decrypt(payload[:12], payload[12:], id.bytes)
        kept = orjson.loads(plain)
        entries = [FrozenEntry(*[*texts, tuple(patients)]) for *texts, patients in kept["entries"]]
        return entries, kept["outcome"], kept["total"]


def _packed(one: FrozenEntry) -> list[Any]:
    texts = [one.resource_type, one.id, one.version, one.custodian, one.full_url, one.content, one.key]
    return [*texts, one.patients]
