"""PATCH, in both of R4's forms, by who may read the record and change it (R4 http, 3.1.0.6)."""

import json
from typing import Any

import pytest

from tests.world import World, a_consent, an_observation, denied_to

Who = dict[str, str]
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
FHIR = {"Content-Type": "application/fhir+json"}


async def patched(world: World, who: Who, body: Any, kind: dict[str, str], **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await world.http.patch(
        "/fhir/Observation/o", content=json.dumps(body), headers={**who, **kind, **named}
    )


def fhirpath(kind: str, path: str, **value: Any) -> dict[str, Any]:
    parts = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    parts += [{"name": "value", name: one} for name, one in value.items()]
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}


async def kept(world: World, who: Who) -> None:
    await world.patient(who, "p1")
    answer = await world.put("Observation/o", an_observation("p1", value="1.50", id="o"), who)
    assert answer.status_code == 201, answer.text


async def test_a_patch_changes_what_it_says_and_nothing_else(world: World, rx1: Who) -> None:
    await kept(world, rx1)
    answer = await patched(world, rx1, [{"op": "replace", "path": "/status", "value": "amended"}], JSON_PATCH)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["status"], answer.headers["etag"]) == ("amended", 'W/"2"')
    assert '"value":1.50' in answer.text
    answer = await patched(world, rx1, fhirpath("replace", "Observation.status", valueCode="final"), FHIR)
    assert (answer.json()["status"], answer.headers["etag"]) == ("final", 'W/"3"')
    assert '"value":1.50' in (await world.get("Observation/o", rx1)).text


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ([{"op": "replace", "path": "/status", "value": "nonsense"}], JSON_PATCH, 422),
        ([{"op": "remove", "path": "/nothing"}], JSON_PATCH, 422),
        ([{"op": "test", "path": "/status", "value": "amended"}], JSON_PATCH, 422),
        ([{"op": "replace", "path": "/id", "value": "other"}], JSON_PATCH, 422),
        ([{"op": "explode"}], JSON_PATCH, 400),
        ({}, JSON_PATCH, 400),
        (fhirpath("replace", "Observation.nothing", valueCode="x"), FHIR, 422),
        ({"resourceType": "Patient"}, FHIR, 400),
        ([], {"Content-Type": "text/plain"}, 415),
    ],
)
async def test_a_patch_that_does_not_fit_changes_nothing(
    body: Any, kind: dict[str, str], status: int, world: World, rx1: Who
) -> None:
    await kept(world, rx1)
    answer = await patched(world, rx1, body, kind)
    assert answer.status_code in ({status} | ({400} if status == 422 else set())), answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert (await world.get("Observation/o", rx1)).headers["etag"] == 'W/"1"'


async def test_a_patch_of_an_older_version_is_refused(world: World, rx1: Who) -> None:
    await kept(world, rx1)
    change = [{"op": "replace", "path": "/status", "value": "amended"}]
    assert (await patched(world, rx1, change, JSON_PATCH, If_Match='W/"7"')).status_code == 412
    assert (await patched(world, rx1, change, JSON_PATCH, If_Match='W/"1"')).status_code == 200


async def test_who_may_not_read_learns_nothing_by_patching(world: World, rx1: Who, rx2: Who) -> None:
    """A ``test`` operation would tell what is kept: withheld is answered as what does not exist is."""
    await kept(world, rx1)
    guess = [{"op": "test", "path": "/status", "value": "final"}]
    assert (await patched(world, rx2, guess, JSON_PATCH)).status_code == 403, "readable, but another's"
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    hidden = await patched(world, rx2, guess, JSON_PATCH)
    missing = await world.http.patch(
        "/fhir/Observation/nobody", content=json.dumps(guess), headers={**rx2, **JSON_PATCH}
    )
    assert (hidden.status_code, hidden.text) == (missing.status_code, missing.text)
    write_only = await world.bearer("rx1", scope="system/Observation.u")
    assert (await patched(world, write_only, guess, JSON_PATCH)).status_code == 403


async def test_a_patch_leaves_one_entry_whatever_becomes_of_it(world: World, rx1: Who) -> None:
    await kept(world, rx1)
    for body, outcome in (
        ([{"op": "replace", "path": "/status", "value": "amended"}], "0"),
        ([{"op": "remove", "path": "/nothing"}], "4"),
    ):
        before = len(await world.audit())
        await patched(world, rx1, body, JSON_PATCH)
        [event] = (await world.audit())[before:]
        assert (event["outcome"], event["action"]) == (outcome, "U")
        assert "Patient/p1" in json.dumps(event)


async def test_labels_of_the_server_survive_a_patch_that_drops_them(world: World, rx1: Who) -> None:
    await kept(world, rx1)
    before = (await world.get("Observation/o", rx1)).json()["meta"]["security"]
    answer = await patched(world, rx1, [{"op": "remove", "path": "/meta/security"}], JSON_PATCH)
    assert answer.status_code == 200
    assert answer.json()["meta"]["security"] == before
