"""Clients that may ask: who registered, with which keys, for which scopes and purposes of use."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, cast

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from app.db import Database, Statement, metadata
from app.errors import BusinessRule, NotFound
from app.smart.jose import PrivateKeyGiven, VerifyingKey, verifying_key
from app.smart.scopes import Scope, parse_scope
from app.vocabulary import OdsCode, PurposeOfUse, ods_code

Kind = Literal["system", "node"]
Added = Literal["added", "updated", "unchanged"]

ASSERTION_ALGORITHMS = ("RS384", "ES384", "RS512", "ES256")
"""Accepted of clients: SMART's two first, which a key without ``alg`` is pinned to; then the NHS's own."""

_MOST_KEYS = 20
_LONGEST_NAME = 200

client = sa.Table(
    "client",
    metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("organisation", sa.Text, nullable=False),
    sa.Column("organisation_name", sa.Text, nullable=False),
    sa.Column("jwks", pg.JSONB, nullable=False),
    sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("purposes", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("roles", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("emergency", sa.Boolean, nullable=False),
    sa.Column("speaks_for", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

assertion_jti = sa.Table(
    "assertion_jti",
    metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("jti", sa.Text, primary_key=True),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Client:
    """One registered client. ``scopes`` are SMART scopes as registered; ``jwks`` holds public keys only."""

    client_id: str
    name: str
    kind: Kind
    organisation: OdsCode
    jwks: Mapping[str, Any]
    scopes: tuple[str, ...]
    purposes: tuple[PurposeOfUse, ...]
    organisation_name: str = ""
    roles: tuple[str, ...] = ()
    """Role codes that it may attest of its users; empty: any."""
    emergency: bool = False
    """May use the purposes ETREAT and BTG."""
    speaks_for: tuple[OdsCode, ...] = ()
    """Of a node: the organisations whose questions it may pass on, beside its own."""
    active: bool = field(default=True, compare=False)

    def key(self, kid: str) -> VerifyingKey | None:
        """The registered key of that id, pinned to one algorithm."""
        for jwk in self.jwks["keys"]:
            if jwk.get("kid") == kid:
                return verifying_key(jwk, algorithms=ASSERTION_ALGORITHMS)
        return None

    @property
    def granted_at_most(self) -> tuple[Scope, ...]:
        parsed = (parse_scope(text) for text in self.scopes)
        return tuple(scope for scope in parsed if scope is not None)


def active_client(client_id: sa.ColumnElement[str] | sa.BindParameter[str]) -> sa.Exists:
    """Whether that client is registered and active, as a clause of the statement that reads the records.

    A deactivated client is thereby refused at its next request, though its token has minutes to live.
    """
    return sa.exists(sa.select(1).where(client.c.client_id == client_id, client.c.active))


_ACTIVE = Statement(sa.select(active_client(sa.bindparam("client_id", type_=sa.Text)).label("active")))


async def client_is_active(connection: asyncpg.Connection, client_id: str) -> bool:
    """The same, as a question of its own inside an open transaction."""
    return bool(await connection.fetchval(_ACTIVE.sql, *_ACTIVE.args({"client_id": client_id})))


_WRITTEN = ("name", "organisation_name", "jwks", "scopes", "purposes", "roles", "emergency", "speaks_for")


def _bind(name: str) -> sa.BindParameter[Any]:
    # The JSON goes as text and is read by the server, so that no encoder of the connection takes part.
    return sa.bindparam(name, type_=sa.Text if name == "jwks" else client.c[name].type)


def _value(name: str) -> sa.ColumnElement[Any]:
    return sa.cast(_bind(name), pg.JSONB) if name == "jwks" else _bind(name)


_COLUMNS = ("client_id", "kind", "organisation", *_WRITTEN)
_INSERT = Statement(
    pg.insert(client)
    .values({name: _value(name) for name in _COLUMNS} | {"active": sa.true(), "created_at": sa.func.now()})
    .on_conflict_do_nothing()
    .returning(client.c.client_id)
)
_UPDATE = Statement(
    sa.update(client)
    .where(client.c.client_id == sa.bindparam("of", type_=sa.Text))
    .values({name: _value(name) for name in _WRITTEN})
)
_SELECT = sa.select(
    *(
        client.c[name]
        for name in ("client_id", "kind", "organisation", "active", *_WRITTEN)
        if name != "jwks"
    ),
    sa.cast(client.c.jwks, sa.Text).label("jwks"),
)
_GET = Statement(_SELECT.where(client.c.client_id == sa.bindparam("client_id", type_=sa.Text)))
_LIST = Statement(_SELECT.order_by(client.c.client_id))
_SET_ACTIVE = Statement(
    sa.update(client)
    .where(client.c.client_id == sa.bindparam("of", type_=sa.Text))
    .values(active=sa.bindparam("active", type_=sa.Boolean))
    .returning(client.c.client_id)
)

_CONSUME = Statement(
    pg.insert(assertion_jti)
    .values(
        client_id=sa.bindparam("client_id", type_=sa.Text),
        jti=sa.bindparam("jti", type_=sa.Text),
        expires_at=sa.bindparam("expires_at", type_=sa.DateTime(timezone=True)),
    )
    .on_conflict_do_nothing()
    .returning(assertion_jti.c.jti)
)
_SWEEPING = 0x4A5449  # one process at a time, or two could wait for each other's rows
_FORGET = Statement(
    sa.delete(assertion_jti).where(
        assertion_jti.c.expires_at < sa.bindparam("before", type_=sa.DateTime(timezone=True)),
        sa.select(sa.func.pg_try_advisory_xact_lock(sa.literal_column(str(_SWEEPING)))).scalar_subquery(),
    )
)


class ClientRegister:
    """The clients of this node, kept in PostgreSQL and so the same to every process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, new: Client) -> Added:
        """Registers a client, or changes what it may do. Doing it twice changes nothing.

        Raises BusinessRule when the registration is unusable, or would hand an id to another organisation: by
        it the audit log names who asked. A deactivated client stays so; ``activate`` brings it back.
        """
        new = _checked(new)
        values = _row(new)
        async with self._database.transaction() as connection:
            if await connection.fetchval(_INSERT.sql, *_INSERT.args(values)):
                return "added"
            known = _client(await connection.fetchrow(_GET.sql, new.client_id))
            if (known.kind, known.organisation) != (new.kind, new.organisation):
                raise BusinessRule(
                    f"The id is taken by a {known.kind} client of {known.organisation}; choose another."
                )
            if known == new:
                return "unchanged"
            await connection.execute(_UPDATE.sql, *_UPDATE.args(values | {"of": new.client_id}))
            return "updated"

    async def get(self, client_id: str) -> Client | None:
        row = await self._database.fetchrow(_GET, client_id=client_id)
        return _client(row) if row else None

    async def list(self) -> tuple[Client, ...]:
        return tuple(_client(row) for row in await self._database.fetch(_LIST))

    async def deactivate(self, client_id: str) -> None:
        """From now on neither its assertions nor its tokens are accepted. Raises NotFound."""
        await self._set_active(client_id, active=False)

    async def activate(self, client_id: str) -> None:
        await self._set_active(client_id, active=True)

    async def consume(self, client_id: str, jti: str, expires_at: datetime) -> bool:
        """Whether this is the assertion's first use, in any process (RFC 7523, 3; SMART, "jti")."""
        row = await self._database.fetchrow(_CONSUME, client_id=client_id, jti=jti, expires_at=expires_at)
        return row is not None

    async def forget_expired(self, before: datetime) -> None:
        """Drops what was used by assertions that expired before then."""
        await self._database.execute(_FORGET, before=before)

    async def _set_active(self, client_id: str, *, active: bool) -> None:
        if await self._database.fetchrow(_SET_ACTIVE, of=client_id, active=active) is None:
            raise NotFound("No such client is registered.")


def _checked(new: Client) -> Client:
    """The registration with nothing in its keys but what is used. Raises BusinessRule with what to change."""
    if not 0 < len(new.client_id) <= 255:
        raise BusinessRule("A client id has 1 to 255 characters.")
    if not all(text.isprintable() for text in (new.client_id, new.name, new.organisation_name, *new.roles)):
        raise BusinessRule("Ids, names and roles are printable text.")
    if len(new.organisation_name) > _LONGEST_NAME or len(new.name) > _LONGEST_NAME:
        raise BusinessRule(f"A name has at most {_LONGEST_NAME} characters.")
    if not new.scopes or not new.purposes:
        raise BusinessRule("A client needs at least one scope and one purpose of use.")
    for text in new.scopes:
        scope = parse_scope(text)
        if scope is None or scope.context != "system" or scope.filters:
            raise BusinessRule(
                f"{text!r} cannot be granted: a scope reads system/TYPE.cruds, without a filter."
            )
    if not new.emergency and any(purpose.is_emergency for purpose in new.purposes):
        raise BusinessRule("The purposes ETREAT and BTG need the emergency privilege.")
    if new.speaks_for and new.kind != "node":
        raise BusinessRule("Only a node speaks for other organisations than its own.")
    return replace(new, jwks={"keys": _checked_keys(new.jwks.get("keys"))})


def _checked_keys(keys: object) -> list[dict[str, str]]:
    """Those that can verify an assertion; others of the set serve another use and are left out (RFC 7517, 5).

    An empty set is accepted: such a client gets its tokens from the operator alone.
    """
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise BusinessRule(f"A JWK Set of at most {_MOST_KEYS} public keys is needed.")
    checked: dict[str, dict[str, str]] = {}
    unusable = []
    for place, jwk in enumerate(keys):
        try:
            key = verifying_key(jwk, algorithms=ASSERTION_ALGORITHMS)
        except PrivateKeyGiven as error:
            raise BusinessRule(f"Key {place} of the JWK Set: {error}.") from error
        except ValueError as error:
            unusable.append(f"key {place}: {error}")
            continue
        if key.kid in checked:
            raise BusinessRule(f"Key {place} of the JWK Set has the 'kid' of another.")
        checked[key.kid] = dict(key.jwk)
    if unusable and not checked:
        raise BusinessRule(f"No key of the JWK Set can be used: {'; '.join(unusable)}.")
    return list(checked.values())


def _row(new: Client) -> dict[str, object]:
    return {
        "client_id": new.client_id,
        "name": new.name,
        "kind": new.kind,
        "organisation": new.organisation,
        "organisation_name": new.organisation_name,
        "jwks": json.dumps(new.jwks),
        "scopes": list(new.scopes),
        "purposes": [purpose.value for purpose in new.purposes],
        "roles": list(new.roles),
        "emergency": new.emergency,
        "speaks_for": list(new.speaks_for),
    }


def _client(row: asyncpg.Record) -> Client:
    return Client(
        client_id=row["client_id"],
        name=row["name"],
        kind=cast(Kind, row["kind"]),
        organisation=ods_code(row["organisation"]),
        organisation_name=row["organisation_name"],
        jwks=json.loads(row["jwks"]),
        scopes=tuple(row["scopes"]),
        purposes=tuple(PurposeOfUse(purpose) for purpose in row["purposes"]),
        roles=tuple(row["roles"]),
        emergency=row["emergency"],
        speaks_for=tuple(ods_code(code) for code in row["speaks_for"]),
        active=row["active"],
    )
