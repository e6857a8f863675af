"""gzip in both directions: large answers where it is accepted, small ones never, bodies within their bound."""

import gzip
import json
from typing import Any

import httpx
import pytest

from tests.world import World, a_patient, an_observation

Who = dict[str, str]
PLAIN = {"Accept-Encoding": "identity"}


async def _observed(world: World, who: Who, note: str) -> str:
    await world.patient(who, "p1")
    made = await world.post("Observation", an_observation("p1", note=[{"text": note}]), who)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def test_a_large_answer_is_compressed_and_is_the_same(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1, "long " * 2000)
    plain = await world.get(f"Observation/{id}", rx1, Accept_Encoding="identity")
    packed = await world.get(f"Observation/{id}", rx1, Accept_Encoding="gzip;q=0.5")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 10
    assert packed.content == plain.content
    assert packed.headers["etag"] == plain.headers["etag"] == 'W/"1"'
    for answer in (plain, packed):
        assert answer.headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize("accepted", ["gzip;q=0", "br, deflate", "identity"])
async def test_it_is_not_compressed_for_who_does_not_accept_it(accepted: str, world: World, rx1: Who) -> None:
    id = await _observed(world, rx1, "long " * 2000)
    answer = await world.get(f"Observation/{id}", rx1, Accept_Encoding=accepted)
    assert answer.status_code == 200 and "content-encoding" not in answer.headers


async def test_what_is_small_or_has_no_body_is_not_compressed(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1, "short")
    for answer in (
        await world.get(f"Observation/{id}", rx1, Accept_Encoding="gzip"),
        await world.get(f"Observation/{id}", rx1, Accept_Encoding="gzip", If_None_Match='W/"1"'),
        await world.get("Observation/none", rx1, Accept_Encoding="gzip"),
        await world.delete(f"Observation/{id}", rx1, Accept_Encoding="gzip"),
    ):
        assert "content-encoding" not in answer.headers, answer.status_code


async def test_who_refuses_the_plain_answer_gets_gzip_however_small(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1, "short")
    answer = await world.get(f"Observation/{id}", rx1, Accept_Encoding="gzip, *;q=0")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["id"] == id


async def test_who_accepts_neither_is_told_so_and_it_is_recorded(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1, "short")
    before = len(await world.audit())
    answer = await world.get(f"Observation/{id}", rx1, Accept_Encoding="*;q=0")
    assert answer.status_code == 406
    assert "Accept-Encoding" in answer.json()["issue"][0]["diagnostics"]
    assert len(await world.audit()) == before + 1


async def test_the_statement_is_compressed_and_tokens_are_not(world: World) -> None:
    statement = await world.http.get("/fhir/metadata", headers={"Accept-Encoding": "gzip"})
    assert statement.headers["content-encoding"] == "gzip"
    assert statement.json()["resourceType"] == "CapabilityStatement"
    refused = await world.http.post(
        "/oauth/token", data={"grant_type": "x" * 9000}, headers={"Accept-Encoding": "gzip"}
    )
    assert "content-encoding" not in refused.headers


async def test_xml_and_pretty_answers_are_compressed_too(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1, "long " * 2000)
    for query in ("_format=xml", "_pretty=true"):
        answer = await world.get(f"Observation/{id}?{query}", rx1, Accept_Encoding="gzip")
        assert answer.headers["content-encoding"] == "gzip"
        assert "long long" in answer.text


async def _put(
    world: World, who: Who, body: bytes, coding: str, media: str = "application/fhir+json"
) -> httpx.Response:
    headers = {**who, "Content-Type": media, "Content-Encoding": coding}
    return await world.http.put("/fhir/Patient/p7", content=body, headers=headers)


async def test_a_body_may_come_compressed(world: World, rx1: Who) -> None:
    made = await _put(world, rx1, gzip.compress(json.dumps(a_patient("p7")).encode()), "gzip")
    assert made.status_code == 201, made.text
    assert (await world.get("Patient/p7", rx1)).json()["name"][0]["family"] == "Okafor"


async def test_a_form_and_a_patch_may_come_compressed(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p7")
    found = await world.http.post(
        "/fhir/Patient/_search",
        content=gzip.compress(b"_id=p7"),
        headers={**rx1, "Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"},
    )
    assert found.json()["total"] == 1
    operations = [{"op": "replace", "path": "/gender", "value": "male"}]
    patched = await world.http.patch(
        "/fhir/Patient/p7",
        content=gzip.compress(json.dumps(operations).encode()),
        headers={**rx1, "Content-Type": "application/json-patch+json", "Content-Encoding": "gzip"},
    )
    assert patched.json()["gender"] == "male"


@pytest.mark.parametrize(
    ("body", "coding", "status"),
    [
        (b"{}", "br", 415),
        (b"{}", "gzip, gzip", 415),
        (b"{}", "gzip", 400),
        (gzip.compress(b"{}")[:-3], "gzip", 400),
        (gzip.compress(b"<html/>"), "gzip", 400),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_and_recorded(
    body: bytes, coding: str, status: int, world: World, rx1: Who
) -> None:
    before = len(await world.audit())
    answer = await _put(world, rx1, body, coding)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert (answer.headers.get("accept-encoding") == "gzip") is (status == 415)
    assert len(await world.audit()) == before + 1


async def test_a_bomb_is_too_large(world: World, rx1: Who) -> None:
    limit = world.node.settings.max_body_bytes
    bomb: Any = gzip.compress(bytes(limit + 1), 1)
    assert len(bomb) < limit / 100
    assert (await _put(world, rx1, bomb, "gzip")).status_code == 413
