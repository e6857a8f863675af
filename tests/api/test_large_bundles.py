"""Large and simultaneous transactions: others are answered meanwhile, and nobody waits for ever (R4 http, 3.1.0.11)."""

import asyncio
import json

import httpx
import pytest

from tests.bundles import Entry, a_bundle, done, entry, sent, statuses
from tests.world import World, a_patient, an_observation

Who = dict[str, str]


async def _answered_meanwhile(world: World, who: Who, sending: "asyncio.Task[httpx.Response]") -> int:
    """How many readings were asked and answered, one after the other, before the other answer was there."""
    answered = 0
    while not sending.done():
        assert (await world.get("Patient/p1", who)).status_code == 200
        answered += not sending.done()
    return answered


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_others_are_answered_while_a_large_transaction_is_checked(
    world: World, rx1: Who, method: str
) -> None:
    """Its first entry has a fault, so that the rest is only checked: no waiting for a database gives others a turn."""
    await world.patient(rx1, "p1")

    def one(n: int, **more: str) -> Entry:
        url = "Observation" if method == "POST" else f"Observation/o{n}"
        return entry(method, url, an_observation("p1", id=f"o{n}", **more))

    body = a_bundle(one(0, status="nonsense"), *(one(n) for n in range(1, 1_500)))
    sending = asyncio.create_task(world.post("", body, rx1))
    answered = await _answered_meanwhile(world, rx1, sending)
    assert sending.result().status_code == 422
    assert answered >= 5


async def test_others_are_answered_while_a_large_transaction_is_kept_and_read(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    body = a_bundle(
        *(entry("POST", "Observation", an_observation("p1")) for _ in range(400)),
        *(entry("GET", "Patient/p1") for _ in range(400)),
    )
    sending = asyncio.create_task(world.post("", body, rx1))
    answered = await _answered_meanwhile(world, rx1, sending)
    assert sending.result().status_code == 200
    assert answered >= 20
    bundle = (await world.get("Observation?patient=p1&_count=0", rx1)).json()
    assert bundle["total"] == 400


async def test_the_answer_of_a_large_transaction_has_every_text_as_it_was_sent(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    entries = [
        entry("PUT", f"Observation/o{n}", an_observation("p1", id=f"o{n}", value=f"{n}.50"))
        for n in range(220)
    ]
    answer = await sent(world, rx1, *entries)
    assert answer.status_code == 200
    for n in (0, 49, 50, 51, 219):
        assert f'"value":{n}.50' in answer.text
        assert f'"value":{n}.50' in (await world.get(f"Observation/o{n}", rx1)).text
    found = [one["resource"]["id"] for one in answer.json()["entry"]]
    assert found == [f"o{n}" for n in range(220)]


async def test_one_person_has_one_entry_however_many_slices_their_record_comes_in(
    world: World, rx1: Who
) -> None:
    """Who the Patient is, is said by an entry that is written after most of the others."""
    before = len(await world.audit())
    entries = [entry("POST", "Observation", an_observation("p1")) for _ in range(120)]
    answers = await done(world, rx1, *entries, entry("PUT", "Patient/p1", a_patient("p1")))
    assert set(statuses(answers)) == {"201"}
    [told] = (await world.audit())[before:]
    assert len([one for one in told["entity"] if "/_history/1" in json.dumps(one)]) == 121


async def test_transactions_that_change_the_same_records_in_opposite_orders_all_succeed(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")

    def entries(value: int) -> list[Entry]:
        return [
            entry("PUT", f"Observation/o{n}", an_observation("p1", id=f"o{n}", value=str(value)))
            for n in range(70)
        ]

    await done(world, rx1, *entries(0))
    answers = await asyncio.gather(
        *(sent(world, rx1, *entries(n)[:: 1 if n % 2 else -1]) for n in range(1, 7))
    )
    assert [one.status_code for one in answers] == [200] * 6
    kept = [await world.get(f"Observation/o{n}", rx1) for n in (0, 35, 69)]
    assert {one.headers["etag"] for one in kept} == {'W/"7"'}
    assert len({one.json()["valueQuantity"]["value"] for one in kept}) == 1


async def test_transactions_with_the_same_conditional_creations_make_each_once(
    world: World, rx1: Who
) -> None:
    def entries(order: int) -> list[Entry]:
        made = [
            entry(
                "POST",
                "Organization",
                {"resourceType": "Organization", "identifier": [{"system": "urn:o", "value": str(n)}]},
                ifNoneExist=f"identifier=urn:o|{n}",
            )
            for n in range(5)
        ]
        return made[::order]

    answers = await asyncio.gather(*(sent(world, rx1, *entries(1 if n % 2 else -1)) for n in range(8)))
    assert [one.status_code for one in answers] == [200] * 8
    created = [status for one in answers for status in statuses(one.json()["entry"]) if status == "201"]
    assert len(created) == 5


async def test_nothing_is_kept_or_told_when_the_entries_cannot_be_appended(world: World, rx1: Who) -> None:
    """The log's head is locked by somebody else: records, readings and their entries go together."""
    await world.patient(rx1, "p1")
    before = len(await world.audit())
    async with world.owner.transaction() as connection:
        await connection.execute("LOCK TABLE audit_head IN ACCESS EXCLUSIVE MODE")
        answer = await sent(
            world,
            rx1,
            entry("PUT", "Observation/o1", an_observation("p1", id="o1", value="6.30")),
            entry("GET", "Patient/p1"),
        )
    assert answer.status_code == 503 and "6.30" not in answer.text and "Okafor" not in answer.text
    assert (await world.get("Observation/o1", rx1)).status_code == 404
    told = (await world.audit())[before:]
    assert "transaction" not in [one["subtype"][0]["code"] for one in told]
