"""The register of clients and of used assertions, in PostgreSQL as the application's role."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from app.db import Database
from app.errors import BusinessRule, NotFound
from app.smart.clients import Client, ClientRegister, client_is_active
from app.vocabulary import PurposeOfUse, ods_code
from tests.unit.smart.forgery import NOW, pair

KEYS = {"keys": [dict(pair("RS384", "rsa").jwk), dict(pair("ES384", "ec").jwk)]}
WARD = Client(
    client_id="ward",
    name="Ward system",
    kind="system",
    organisation=ods_code("RX1"),
    organisation_name="Example Trust",
    jwks=KEYS,
    scopes=("system/*.rs", "system/AuditEvent.rs"),
    purposes=(PurposeOfUse.TREAT, PurposeOfUse.ETREAT),
    roles=("R8000",),
    emergency=True,
)


@pytest.fixture
def register(database: Database) -> ClientRegister:
    return ClientRegister(database)


async def test_a_registered_client_is_found_as_it_was_given(register: ClientRegister) -> None:
    assert await register.add(WARD) == "added"
    assert await register.get("ward") == WARD
    assert await register.list() == (WARD,)
    assert await register.get("Ward") is None


async def test_adding_twice_changes_nothing(register: ClientRegister) -> None:
    await register.add(WARD)
    assert await register.add(WARD) == "unchanged"
    assert await register.list() == (WARD,)


async def test_adding_again_with_other_permissions_changes_them(register: ClientRegister) -> None:
    await register.add(WARD)
    narrower = replace(WARD, scopes=("system/Patient.r",), jwks={"keys": KEYS["keys"][:1]}, name="Ward 2")
    assert await register.add(narrower) == "updated"
    assert await register.get("ward") == narrower


async def test_clients_added_at_once_are_added_once(register: ClientRegister) -> None:
    assert (
        sorted(await asyncio.gather(*(register.add(WARD) for _ in range(5)))) == ["added"] + ["unchanged"] * 4
    )


@pytest.mark.parametrize("other", [replace(WARD, organisation=ods_code("RX2")), replace(WARD, kind="node")])
async def test_an_id_is_never_handed_to_another_organisation_or_kind(
    register: ClientRegister, other: Client
) -> None:
    await register.add(WARD)
    with pytest.raises(BusinessRule, match="taken by a system client of RX1"):
        await register.add(other)
    assert await register.get("ward") == WARD


async def test_a_deactivated_client_stays_so_until_it_is_activated(
    register: ClientRegister, database: Database
) -> None:
    async def active() -> tuple[bool, bool]:
        known = await register.get("ward")
        assert known is not None
        async with database.transaction() as connection:
            return known.active, await client_is_active(connection, "ward")

    await register.add(WARD)
    assert await active() == (True, True)
    await register.deactivate("ward")
    assert await active() == (False, False)
    await register.add(replace(WARD, name="Ward again"))
    assert await active() == (False, False)
    await register.activate("ward")
    assert await active() == (True, True)


async def test_a_client_that_nobody_registered_is_neither_active_nor_deactivated(
    register: ClientRegister, database: Database
) -> None:
    async with database.transaction() as connection:
        assert not await client_is_active(connection, "nobody")
    with pytest.raises(NotFound):
        await register.deactivate("nobody")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"client_id": ""}, "1 to 255"),
        ({"client_id": "x" * 256}, "1 to 255"),
        ({"client_id": "a\x00b"}, "printable"),
        ({"name": "line\nbreak"}, "printable"),
        ({"organisation_name": "x" * 201}, "at most 200"),
        ({"scopes": ()}, "at least one scope"),
        ({"purposes": ()}, "at least one scope and one purpose"),
        ({"scopes": ("system/Observation.rsXYZ",)}, "cannot be granted"),
        ({"scopes": ("patient/Observation.rs",)}, "cannot be granted"),
        ({"scopes": ("system/Observation.rs?category=x",)}, "cannot be granted"),
        ({"emergency": False}, "emergency privilege"),
        ({"speaks_for": (ods_code("RX2"),)}, "Only a node"),
        ({"jwks": {}}, "JWK Set"),
        ({"jwks": {"keys": {}}}, "JWK Set"),
        ({"jwks": {"keys": [dict(pair("RS384").jwk)] * 2}}, "'kid' of another"),
        ({"jwks": {"keys": [dict(pair("RS384").jwk)] * 21}}, "at most 20"),
        ({"jwks": {"keys": [{**pair("RS384").jwk, "d": "AQAB"}]}}, "private"),
        ({"jwks": {"keys": [*KEYS["keys"], {"kty": "oct", "k": "AQAB", "kid": "s"}]}}, "symmetric"),
        ({"jwks": {"keys": [dict(pair("RS256").jwk), 7]}}, "No key .* can be used: key 0: .*; key 1"),
    ],
)
async def test_an_unusable_registration_is_refused_with_what_to_change(
    register: ClientRegister, change: dict[str, Any], why: str
) -> None:
    with pytest.raises(BusinessRule, match=why):
        await register.add(replace(WARD, **change))
    assert await register.list() == ()


async def test_keys_for_another_use_are_left_out_and_the_rest_kept_without_ornament(
    register: ClientRegister,
) -> None:
    ornamented = {**pair("RS384", "rsa").jwk, "key_ops": ["verify"], "x5t": "abc", "note": "\x00"}
    del ornamented["alg"]
    other_uses = [
        dict(pair("RS256", "for-tokens").jwk),
        {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "e"},
    ]
    await register.add(replace(WARD, jwks={"keys": [ornamented, *other_uses]}))
    known = await register.get("ward")
    assert known is not None
    assert known.jwks == {"keys": [dict(pair("RS384", "rsa").jwk)]}


async def test_a_client_without_keys_can_be_registered_and_proves_nothing(register: ClientRegister) -> None:
    await register.add(replace(WARD, jwks={"keys": []}))
    known = await register.get("ward")
    assert known is not None
    assert known.key("rsa") is None


async def test_a_key_is_found_by_its_kid_and_pinned_to_its_algorithm(register: ClientRegister) -> None:
    await register.add(WARD)
    known = await register.get("ward")
    assert known is not None
    found = [known.key(kid) for kid in ("rsa", "ec", "other")]
    assert [key.algorithm if key else None for key in found] == ["RS384", "ES384", None]


async def test_an_assertion_is_used_once_by_all_processes_together(register: ClientRegister) -> None:
    later = NOW + timedelta(minutes=5)
    uses = await asyncio.gather(*(register.consume("ward", "j1", later) for _ in range(10)))
    assert sorted(uses) == [False] * 9 + [True]


async def test_clients_do_not_use_up_each_others_assertions(register: ClientRegister) -> None:
    assert await register.consume("ward", "j1", NOW)
    assert await register.consume("clinic", "j1", NOW)
    assert not await register.consume("ward", "j1", NOW)


async def test_only_expired_assertions_are_forgotten(register: ClientRegister) -> None:
    await register.consume("ward", "old", NOW - timedelta(seconds=1))
    await register.consume("ward", "new", NOW + timedelta(seconds=1))
    await asyncio.gather(*(register.forget_expired(NOW) for _ in range(4)))
    assert await register.consume("ward", "old", NOW)
    assert not await register.consume("ward", "new", NOW)


async def test_the_application_cannot_delete_a_client_nor_give_an_assertion_a_second_life(
    register: ClientRegister, database: Database
) -> None:
    await register.add(WARD)
    for sql in ("DELETE FROM client", "TRUNCATE client", "UPDATE assertion_jti SET jti = 'x'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.pool.execute(sql)
    assert await register.list() == (WARD,)


@pytest.mark.parametrize(
    "column", ["kind = 'robot'", "scopes = '{}'", "purposes = '{}'", "jwks = '{}'", "client_id = ''"]
)
async def test_the_database_itself_refuses_a_broken_client(
    register: ClientRegister, owner: Database, column: str
) -> None:
    await register.add(WARD)
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.pool.execute(f"UPDATE client SET {column}")
