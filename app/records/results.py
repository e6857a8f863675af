"""An answer frozen for paging: no page skips, repeats or adds anything, whatever is written meanwhile.

Of this node's own records a pointer is kept, so that a later page is read and decided again; of other sources the text,
since they need not answer twice the same (Swiss CH EPR FHIR's rule).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.audit.entry import Disclosed
from app.consent.labels import label
from app.db import Database, Statement, metadata
from app.errors import ExpiredCursor
from app.fhir import text
from app.fhir.facets import Facets, facets_of
from app.fhir.manifest import SourceLine, SourceState
from app.fhir.sorting import Sortable
from app.records.reading import Pointer
from app.records.remote import RemoteRecord
from app.records.searching import After
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

_expired = result_set.delete().where(result_set.c.expires_at < sa.func.now()).cte("expired")
_KEEP = Statement(
    result_set.insert()
    .values(
        id=sa.bindparam("id", type_=sa.Uuid),
        person_key=sa.bindparam("person_key", type_=sa.BigInteger),
        payload=sa.bindparam("payload", type_=sa.LargeBinary),
        expires_at=sa.bindparam("expires_at", type_=sa.TIMESTAMP(timezone=True)),
    )
    .add_cte(_expired)
)
_FIND = Statement(
    sa.select(result_set.c.payload).where(
        result_set.c.id == sa.bindparam("id", type_=sa.Uuid), result_set.c.expires_at > sa.func.now()
    )
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """One resource of another source, kept as its custodian wrote it."""

    resource_type: str
    id: str
    version: str
    """Empty when the source gives none."""
    custodian: OdsCode
    full_url: str
    content: str

    @classmethod
    def of(cls, record: RemoteRecord) -> "Foreign":
        return cls(
            record.resource_type,
            record.id,
            record.version,
            record.custodian,
            record.full_url,
            record.content,
        )

    @property
    def disclosed(self) -> Disclosed:
        reference = f"{self.resource_type}/{self.id}"
        return Disclosed(f"{reference}/_history/{self.version}" if self.version else reference, ())

    @property
    def base_url(self) -> str:
        return self.full_url.rsplit("/", 2)[0]

    def facets(self) -> Facets:
        """By our own labelling rules: a source that labels nothing is labelled as one of our records is."""
        body = text.parse(self.content).value
        facets, _ = label(body, facets_of(body, custodian=self.custodian, base_url=self.base_url))
        return facets

    def sortable(self) -> Sortable:
        return Sortable(
            (self.resource_type, self.id, self.custodian),
            _last_updated(self.content),
            lambda: text.parse(self.content).value,
            self.base_url,
        )


def _last_updated(content: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.parse(content).value["meta"]["lastUpdated"])
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.tzinfo else None


Kept = Pointer | Foreign
"""One place in a frozen answer: a version of our own, or the text that another source gave."""


@dataclass(frozen=True, slots=True)
class ResultSet:
    """A frozen answer. ``beyond``: where the question goes on when the answer was too long to be kept whole."""

    kept: tuple[Kept, ...]
    total: int | None
    lines: tuple[SourceLine, ...] = ()
    beyond: After | None = None


class ResultSets:
    """Frozen answers. The payload is encrypted under a key that only the page link carries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def freeze(self, person: PersonKey | None, answer: ResultSet) -> dict[str, Any]:
        """Keeps the answer for an hour; gives what a page link needs to read it back."""
        key, nonce, id = AESGCM.generate_key(256), os.urandom(12), uuid4()
        beyond = answer.beyond
        plain = orjson.dumps(
            {
                "kept": [_packed(one) for one in answer.kept],
                "lines": [
                    [one.custodian, one.name, one.state, one.as_of.isoformat(), one.count]
                    for one in answer.lines
                ],
                "total": answer.total,
                "beyond": [_text(beyond.key), beyond.id] if beyond else None,
            }
        )
        payload = nonce + AESGCM(key).encrypt(nonce, plain, id.bytes)
        await self._database.execute(
            _KEEP, id=id, person_key=person or 0, payload=payload, expires_at=datetime.now(UTC) + _LIFETIME
        )
        return {"set": str(id), "secret": key.hex()}

    async def thaw(self, position: dict[str, Any]) -> ResultSet:
        """The answer as it was. Raises ExpiredCursor."""
        id = UUID(position["set"])
        row = await self._database.fetchrow(_FIND, id=id)
        if row is None:
            raise ExpiredCursor
        payload: bytes = row["payload"]
        plain = AESGCM(bytes.fromhex(position["secret"])).decrypt(payload[:12], payload[12:], id.bytes)
        saved = orjson.loads(plain)
        beyond = After(_key(saved["beyond"][0]), saved["beyond"][1]) if saved["beyond"] else None
        lines = tuple(map(_line, saved["lines"]))
        return ResultSet(tuple(map(_unpacked, saved["kept"])), saved["total"], lines, beyond)


def _packed(one: Kept) -> list[Any]:
    if isinstance(one, Pointer):
        return list(one)
    return [one.resource_type, one.id, one.version, one.custodian, one.full_url, one.content]


def _unpacked(saved: Sequence[Any]) -> Kept:
    return Pointer(*saved) if len(saved) == len(Pointer._fields) else Foreign(*saved)


def _line(saved: Sequence[Any]) -> SourceLine:
    custodian, name, state, as_of, count = saved
    return SourceLine(custodian, name, SourceState(state), datetime.fromisoformat(as_of), count)


def _text(key: datetime | str) -> str:
    return key if isinstance(key, str) else key.isoformat()


def _key(saved: str) -> datetime | str:
    """A sort key is an instant, or the name of a type."""
    return saved if saved.isalpha() else datetime.fromisoformat(saved)
