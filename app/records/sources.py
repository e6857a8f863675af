"""The sources that are asked beside this node's own store, and a person's Patient ids there (notes 6.2, 6.15)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.db import Database, Statement, metadata
from app.errors import BusinessRule
from app.vocabulary import OdsCode, PersonKey

KINDS: Final = ("candour", "fhir")
"""Another node, which is told who asks and keeps its own audit; or any server of FHIR R4."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one custodian's records are asked for. ``base_url`` has no trailing slash."""

    ods_code: OdsCode
    name: str
    kind: str
    base_url: str
    token_url: str | None = None
    client_id: str | None = None
    """Our client id there."""
    quarantined: bool = False
    """It answered for another patient, and nobody has cleared it since: it is not asked."""


@dataclass(frozen=True, slots=True)
class KnownPatients:
    """A person's Patients at one source. To ask for ``asked`` is to ask for all of ``every``, which are linked."""

    asked: tuple[str, ...]
    every: frozenset[str]


source = sa.Table(
    "source",
    metadata,
    sa.Column("ods_code", sa.Text, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("kind", sa.Text),
    sa.Column("base_url", sa.Text),
    sa.Column("token_url", sa.Text),
    sa.Column("client_id", sa.Text),
    sa.Column("active", sa.Boolean),
    sa.Column("quarantined_at", sa.TIMESTAMP(timezone=True)),
)
source_patient = sa.Table(
    "source_patient",
    metadata,
    sa.Column("ods_code", sa.Text, primary_key=True),
    sa.Column("person_key", sa.BigInteger, primary_key=True),
    sa.Column("asked", sa.ARRAY(sa.Text)),
    sa.Column("linked", sa.ARRAY(sa.Text)),
    sa.Column("seen_at", sa.TIMESTAMP(timezone=True)),
)

_WRITTEN = ("name", "kind", "base_url", "token_url", "client_id")


def _text(name: str) -> sa.BindParameter[str]:
    return sa.bindparam(name, type_=sa.Text)


def _registration() -> sa.ClauseElement:
    new = insert(source).values({name: _text(name) for name in ("ods_code", *_WRITTEN)} | {"active": True})
    changed = {name: new.excluded[name] for name in _WRITTEN} | {"active": True}
    return new.on_conflict_do_update(index_elements=["ods_code"], set_=changed)


_ADD = Statement(_registration())
_TAKEN = Statement(
    sa.select(source.c.ods_code).where(
        source.c.base_url == _text("base_url"), source.c.ods_code != _text("ods_code"), source.c.active
    )
)
# Ids of one server mean nothing at another.
_MOVED = Statement(
    source_patient.delete().where(
        source_patient.c.ods_code == source.c.ods_code,
        source.c.ods_code == _text("ods_code"),
        source.c.base_url != _text("base_url"),
    )
)
_ACTIVE = Statement(sa.select(source).where(source.c.active).order_by(source.c.ods_code))
_QUARANTINE = Statement(
    source.update()
    .where(source.c.ods_code == _text("ods"))
    .values(quarantined_at=sa.func.coalesce(source.c.quarantined_at, sa.func.now()))
)
_CLEAR = Statement(
    source.update()
    .where(source.c.ods_code == _text("ods"))
    .values(quarantined_at=None)
    .returning(source.c.ods_code)
)
_FORGET = Statement(source_patient.delete().where(source_patient.c.ods_code == _text("ods")))
_KNOWN = Statement(
    sa.select(source_patient.c.ods_code, source_patient.c.asked, source_patient.c.linked).where(
        source_patient.c.person_key == sa.bindparam("person_key", type_=sa.BigInteger)
    )
)


def _memory() -> sa.ClauseElement:
    new = insert(source_patient).values(
        ods_code=_text("ods"),
        person_key=sa.bindparam("person_key", type_=sa.BigInteger),
        asked=sa.bindparam("asked", type_=sa.ARRAY(sa.Text)),
        linked=sa.bindparam("linked", type_=sa.ARRAY(sa.Text)),
    )
    changed = {"asked": new.excluded.asked, "linked": new.excluded.linked, "seen_at": sa.func.now()}
    return new.on_conflict_do_update(index_elements=["person_key", "ods_code"], set_=changed)


_REMEMBER = Statement(_memory())


class SourceRegister:
    """The registered sources. Every change is in force at the next question, in every process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        ods: OdsCode,
        base_url: str,
        *,
        kind: str,
        name: str = "",
        token_url: str | None = None,
        client_id: str | None = None,
    ) -> None:
        """Registers a source or changes it; the same call again changes nothing. A quarantine stays.

        Raises BusinessRule for an address that cannot be asked or that is another source's already: a server
        asked twice would answer everything twice.
        """
        if kind not in KINDS:
            raise BusinessRule(f"A source is of the kind {' or '.join(KINDS)}.")
        base = checked_url(base_url).rstrip("/")
        token = checked_url(token_url) if token_url else None
        taken = await self._database.fetchrow(_TAKEN, base_url=base, ods_code=ods)
        if taken is not None:
            raise BusinessRule(f"Source {taken['ods_code']} is asked at this address already.")
        await self._database.execute(_MOVED, ods_code=ods, base_url=base)
        await self._database.execute(
            _ADD,
            ods_code=ods,
            name=_one_line(name),
            kind=kind,
            base_url=base,
            token_url=token,
            client_id=client_id,
        )

    async def active(self) -> tuple[Source, ...]:
        """Every source that is expected to answer, quarantined ones too, in the order of their ODS codes."""
        return tuple(
            Source(
                OdsCode(row["ods_code"]),
                row["name"],
                row["kind"],
                row["base_url"],
                row["token_url"],
                row["client_id"],
                row["quarantined_at"] is not None,
            )
            for row in await self._database.fetch(_ACTIVE)
        )

    async def quarantine(self, ods: OdsCode) -> None:
        """The source is not asked again until a person clears it; it keeps the instant of the first time."""
        await self._database.execute(_QUARANTINE, ods=ods)

    async def clear(self, ods: OdsCode) -> None:
        """Ends a quarantine. What was remembered of the source's Patients is forgotten. Raises BusinessRule."""
        if await self._database.fetchrow(_CLEAR, ods=ods) is None:
            raise BusinessRule(f"No source {ods} is registered.")
        await self._database.execute(_FORGET, ods=ods)

    async def remember_patient(
        self, ods: OdsCode, person: PersonKey, asked: Iterable[str], every: Iterable[str]
    ) -> None:
        """Keeps a person's Patient ids at a source, in place of those kept before."""
        await self._database.execute(
            _REMEMBER, ods=ods, person_key=person, asked=list(asked), linked=sorted(every)
        )

    async def patient_ids(self, person: PersonKey) -> Mapping[OdsCode, KnownPatients]:
        """What is remembered of a person, by source: a saving of time, to be checked whenever it is used."""
        rows = await self._database.fetch(_KNOWN, person_key=person)
        return {
            OdsCode(row["ods_code"]): KnownPatients(tuple(row["asked"]), frozenset(row["linked"]))
            for row in rows
        }


def checked_url(text: str) -> str:
    """``text`` as an address over HTTP without credentials, query or fragment. Raises BusinessRule."""
    refusal = (
        "An address is needed like https://host/fhir: http or https, without credentials, query or fragment."
    )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BusinessRule(refusal) from error
    plain = re.fullmatch(r"[\x21-\x7e]+", text) and "\\" not in text and "?" not in text and "#" not in text
    if (
        not plain
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or port == 0
    ):
        raise BusinessRule(refusal)
    return text


def _one_line(name: str) -> str:
    """Printable and without a line's end: it is shown in every answer."""
    return " ".join("".join(one if one.isprintable() else " " for one in name).split())
