"""Bulk Data export: what is exported, to whom, and that what is withheld shows in no part of it."""

import asyncio
import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from starlette.requests import Request as HttpRequest

from app.asked import Asked
from app.audit.entry import Interaction
from app.db import APPLICATION_ROLE, Database
from app.disclosure import making
from app.disclosure.lookups import Lookups
from app.errors import NotAuthenticated, NotFound
from app.main import create_app, services
from app.records import exports
from app.settings import Settings
from app.vocabulary import PurposeOfUse
from tests.servers import Server
from tests.world import DAVID, World, a_consent, an_observation, denied_to

Who = dict[str, str]
ASYNC = {"Prefer": "respond-async", "Accept": "application/fhir+json"}


async def kick_off(world: World, path: str, who: Who, **headers: str) -> httpx.Response:
    return await world.get(path, who, **{**ASYNC, **headers})


async def complete(world: World, begun: httpx.Response, who: Who) -> httpx.Response:
    """The status once it is complete."""
    assert begun.status_code == 202, begun.text
    address = begun.headers["content-location"].removeprefix(f"{world.base}/")
    for _ in range(400):
        answer = await world.get(address, who)
        if answer.status_code != 202:
            return answer
        assert answer.headers["x-progress"] == "in progress"
        assert answer.content == b""
        await asyncio.sleep(0.05)
    raise AssertionError("the export was never complete")


async def exported(world: World, path: str, who: Who, **headers: str) -> dict[str, Any]:
    answer = await complete(world, await kick_off(world, path, who, **headers), who)
    assert answer.status_code == 200, answer.text
    manifest: dict[str, Any] = answer.json()
    return manifest


async def lines(world: World, url: str, who: Who) -> list[str]:
    answer = await world.get(url.removeprefix(f"{world.base}/"), who)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/fhir+ndjson"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text == "" or answer.text.endswith("\n")
    return answer.text.split("\n")[:-1]


async def everything(world: World, manifest: dict[str, Any], who: Who) -> dict[str, list[str]]:
    """The lines of all files by type."""
    found: dict[str, list[str]] = {}
    for file in manifest["output"]:
        found.setdefault(file["type"], []).extend(await lines(world, file["url"], who))
    return found


async def ids(world: World, path: str, who: Who, **headers: str) -> dict[str, list[str]]:
    found = await everything(world, await exported(world, path, who, **headers), who)
    return {kind: sorted(json.loads(one)["id"] for one in every) for kind, every in found.items()}


async def a_ward(world: World, rx1: Who) -> None:
    """Two people of RX1, each with an Observation of their own."""
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", DAVID, birthDate="1950-01-01")
    for patient in ("p1", "p2"):
        made = await world.put(f"Observation/o-{patient}", an_observation(patient, id=f"o-{patient}"), rx1)
        assert made.status_code == 201, made.text


async def hide(world: World, rx1: Who, patient: str, ods: str = "RX2") -> str:
    made = await world.put(
        f"Consent/c-{patient}", {**a_consent(patient, **denied_to(ods)), "id": f"c-{patient}"}, rx1
    )
    assert made.status_code in (200, 201), made.text
    return f"c-{patient}"


def opaque(text: str) -> str:
    """Without what is chosen anew each time: ids of jobs and files, and instants."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)
    return re.sub(r"20\d\d-\d\d-\d\dT[0-9:.]+Z", "NOW", text)


# The flow.


async def test_an_export_is_begun_asked_about_downloaded_and_removed(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    before = datetime.now(UTC)
    begun = await kick_off(world, "Patient/$export?_type=Patient,Observation", rx1)
    assert begun.status_code == 202
    assert begun.headers["content-type"].startswith("application/fhir+json")
    assert begun.json()["resourceType"] == "OperationOutcome"
    address = begun.headers["content-location"]
    assert address.startswith(f"{world.base}/_export/")
    done = await complete(world, begun, rx1)
    assert done.headers["content-type"] == "application/json"
    expires = datetime.strptime(done.headers["expires"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    assert timedelta(hours=23, minutes=58) < expires - before < timedelta(hours=24, minutes=2)
    manifest = done.json()
    assert manifest["request"] == f"{world.base}/Patient/$export?_type=Patient,Observation"
    assert manifest["requiresAccessToken"] is True
    at = datetime.fromisoformat(manifest["transactionTime"])
    assert abs(at - before) < timedelta(seconds=5)
    assert (manifest["deleted"], manifest["error"]) == ([], [])
    assert [one["type"] for one in manifest["output"]] == ["Observation", "Patient"]
    assert all("count" not in one for one in manifest["output"])
    found = await everything(world, manifest, rx1)
    assert {kind: sorted(json.loads(one)["id"] for one in every) for kind, every in found.items()} == {
        "Patient": ["p1", "p2"],
        "Observation": ["o-p1", "o-p2"],
    }
    path = address.removeprefix(f"{world.base}/")
    removed = await world.delete(path, rx1)
    assert removed.status_code == 202
    for gone in (await world.get(path, rx1), await world.delete(path, rx1)):
        assert gone.status_code == 404
        assert gone.json()["resourceType"] == "OperationOutcome"
    file = manifest["output"][0]["url"].removeprefix(f"{world.base}/")
    assert (await world.get(file, rx1)).status_code == 404


async def test_the_text_of_a_record_is_one_line_with_every_digit(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    text = an_observation(
        "p1", value="6.300e1", id="o1", note=[{"text": "two\nlines,\ttabs and \\u0041 \u2028"}]
    )
    spaced = text.replace(',"subject"', ' ,\r\n\t"subject"').replace("{", "{\n", 1)
    assert (await world.put("Observation/o1", spaced, rx1)).status_code == 201
    read = (await world.get("Observation/o1", rx1)).text
    manifest = await exported(world, "Patient/$export?_type=Observation", rx1)
    [line] = await lines(world, manifest["output"][0]["url"], rx1)
    assert line == read.replace("\n", "").replace("\r", "")
    assert "6.300e1" in line
    assert json.loads(line) == json.loads(read)


async def test_a_file_is_compressed_for_who_accepts_it(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    manifest = await exported(world, "Patient/$export?_type=Patient", rx1)
    path = manifest["output"][0]["url"].removeprefix(world.base.removesuffix("/fhir"))
    asked = {**rx1, "Accept-Encoding": "gzip"}
    async with world.http.stream("GET", path, headers=asked) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        packed = b"".join([piece async for piece in answer.aiter_raw()])
    plain = await world.http.get(path, headers={**rx1, "Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed) == plain.content


async def test_parameters_may_be_posted(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "_outputFormat", "valueString": "application/fhir+ndjson"},
            {"name": "_type", "valueString": "Observation"},
            {"name": "_type", "valueCode": "Patient"},
            {"name": "_since", "valueInstant": "2026-01-01T00:00:00Z"},
            {"name": "patient", "valueReference": {"reference": "Patient/p2"}},
        ],
    }
    begun = await world.post("Patient/$export?_format=json", body, rx1, **ASYNC)
    manifest = (await complete(world, begun, rx1)).json()
    assert manifest["request"] == f"{world.base}/Patient/$export"
    found = await everything(world, manifest, rx1)
    assert {kind: [json.loads(one)["id"] for one in every] for kind, every in found.items()} == {
        "Patient": ["p2"],
        "Observation": ["o-p2"],
    }


async def test_all_of_a_node_is_what_the_scopes_reach(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    await world.put("Organization/org", {"resourceType": "Organization", "id": "org", "name": "A"}, rx1)
    await hide(world, rx1, "p1", "RX9")
    everything_here = await ids(world, "$export", rx1)
    assert everything_here == {
        "Patient": ["p1", "p2"],
        "Observation": ["o-p1", "o-p2"],
        "Organization": ["org"],
        "Consent": ["c-p1"],
    }
    wild = await world.bearer("rx1", scope="system/*.rs")
    assert sorted(await ids(world, "$export", wild)) == ["Observation", "Organization", "Patient"]
    few = await world.bearer("rx1", scope="system/Organization.rs system/Patient.r")
    assert await ids(world, "$export", few) == {"Organization": ["org"]}
    assert sorted(await ids(world, "Patient/$export", wild)) == ["Observation", "Patient"]


async def test_a_consent_is_exported_to_the_custodian_who_keeps_it_alone(
    world: World, rx1: Who, rx2: Who
) -> None:
    await a_ward(world, rx1)
    await hide(world, rx1, "p1", "RX9")
    assert await ids(world, "Patient/$export?_type=Consent", rx1) == {"Consent": ["c-p1"]}
    assert await ids(world, "Patient/$export?_type=Consent", rx2) == {}


async def test_a_part_of_each_resource_can_be_asked_for(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    manifest = await exported(world, "Patient/$export?_type=Patient&_elements=id,Patient.gender", rx1)
    first = json.loads((await lines(world, manifest["output"][0]["url"], rx1))[0])
    assert set(first) == {"resourceType", "id", "meta", "gender"}
    assert first["meta"]["tag"][0]["code"] == "SUBSETTED"


async def test_a_linked_patient_is_exported_as_it_is_read(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "q1")
    manifest = await exported(world, "Patient/$export?_type=Patient", rx1)
    found = {json.loads(one)["id"]: one for one in await lines(world, manifest["output"][0]["url"], rx1)}
    for id, line in found.items():
        assert line == (await world.get(f"Patient/{id}", rx1)).text
    assert json.loads(found["p1"])["link"][0]["other"]["reference"] == "Patient/q1"


# What may be asked.

REFUSED = [
    ("$export?_outputFormat=text/csv", "_outputFormat"),
    ("$export?_outputFormat=application%2Ffhir%2Bndjson&_outputFormat=ndjson", "_outputFormat"),
    ("$export?_since=2026-01-01", "_since"),
    ("$export?_since=2026-02-30T00:00:00Z", "_since"),
    ("$export?_until=yesterday", "_until"),
    ("$export?_type=Nonsense", "_type"),
    ("$export?_type=AuditEvent", "_type"),
    ("$export?_type=", "_type"),
    ("Patient/$export?_type=Organization", "_type"),
    ("Patient/$export?_type=Patient,Organization", "_type"),
    ("$export?_typeFilter=Observation", "_typeFilter"),
    ("$export?_type=Patient&_typeFilter=Observation%3Fcode%3D1", "_typeFilter"),
    ("$export?_typeFilter=Observation%3Fnonsense%3D1", "_typeFilter"),
    ("$export?_typeFilter=Observation%3Fdate%3Dnever", "_typeFilter"),
    ("$export?_typeFilter=Observation%3Fcode%3D1%26_sort%3Ddate", "_typeFilter"),
    ("$export?_typeFilter=Observation%3Fcode%3D1%26_include%3D*", "_typeFilter"),
    ("$export?_typeFilter=Observation%3Fcode%3D1%26_count%3D1", "_typeFilter"),
    ("$export?_typeFilter=Observation%3Fcode%3D", "_typeFilter"),
    ("$export?_elements=a.b.c*", "_elements"),
    ("$export?includeAssociatedData=LatestProvenanceResources", "includeAssociatedData"),
    ("$export?organizeOutputBy=Patient", "organizeOutputBy"),
    ("$export?allowPartialManifests=true", "allowPartialManifests"),
    ("$export?foo=bar", "foo"),
    ("Patient/$export?patient=Patient/p1", "patient"),
]


async def test_what_is_not_supported_is_refused_by_name(world: World, rx1: Who) -> None:
    for path, name in REFUSED:
        answer = await kick_off(world, path, rx1)
        assert answer.status_code == 400, path
        [issue] = answer.json()["issue"]
        assert name in issue["diagnostics"], path
        assert "content-location" not in answer.headers


async def test_every_name_of_the_format_is_taken(world: World, rx1: Who) -> None:
    for form in ("application/fhir%2Bndjson", "application/fhir+ndjson", "application/ndjson", "ndjson"):
        await exported(world, f"$export?_type=Patient&_outputFormat={form}", rx1)


async def test_what_is_left_out_leniently_is_said(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    path = "Patient/$export?_type=Patient,Organization&organizeOutputBy=Patient&patient=Patient/p1"
    manifest = await exported(world, path, rx1, Prefer="respond-async, handling=lenient")
    [error] = manifest["error"]
    assert error["type"] == "OperationOutcome"
    told = [json.loads(one) for one in await lines(world, error["url"], rx1)]
    assert [one["resourceType"] for one in told] == ["OperationOutcome"] * 3
    assert [one["issue"][0]["severity"] for one in told] == ["warning"] * 3
    text = " ".join(one["issue"][0]["diagnostics"] for one in told)
    assert "Organization" in text and "organizeOutputBy" in text and "patient" in text
    assert [one["type"] for one in manifest["output"]] == ["Patient"]


async def test_a_filter_is_never_left_out(world: World, rx1: Who) -> None:
    path = "$export?_typeFilter=Observation%3Fnonsense%3D1"
    lenient = await kick_off(world, path, rx1, Prefer="respond-async; handling=x, handling=lenient")
    assert lenient.status_code == 400


async def test_an_export_is_asynchronous_or_not_at_all(world: World, rx1: Who) -> None:
    for prefer in ("", "return=minimal", "handling=strict"):
        answer = await kick_off(world, "$export", rx1, Prefer=prefer)
        assert answer.status_code == 400 and "respond-async" in answer.text
    head = await world.http.head("/fhir/$export", headers={**rx1, **ASYNC})
    assert head.status_code == 405


async def test_a_type_that_is_named_must_be_permitted(world: World, rx1: Who) -> None:
    for scope in ("system/Patient.rs", "system/Patient.rs system/Observation.r", "system/*.s"):
        who = await world.bearer("rx1", scope=scope)
        answer = await kick_off(world, "Patient/$export?_type=Patient,Observation", who)
        assert answer.status_code == 403
        assert "insufficient_scope" in answer.headers["www-authenticate"]
    wild = await world.bearer("rx1", scope="system/*.rs")
    assert (await kick_off(world, "Patient/$export?_type=Consent", wild)).status_code == 403
    none = await world.bearer("rx1", scope="system/*.c")
    assert (await kick_off(world, "Patient/$export", none)).status_code == 403


async def test_a_filter_looks_at_no_type_beyond_the_scopes(world: World, rx1: Who) -> None:
    who = await world.bearer("rx1", scope="system/Observation.rs")
    path = "$export?_type=Observation&_typeFilter=Observation%3Fsubject%3APatient.gender%3Dfemale"
    assert (await kick_off(world, path, who)).status_code == 403


async def test_an_emergency_exports_nothing(world: World, rx1: Who) -> None:
    who = await world.bearer("rx1", purpose=PurposeOfUse.ETREAT, emergency_for=DAVID)
    answer = await kick_off(world, "Patient/$export", who)
    assert answer.status_code == 403
    assert "one person" in answer.json()["issue"][0]["diagnostics"]


async def test_a_purpose_that_the_policy_does_not_permit_finds_nothing(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    who = await world.bearer("rx1", purpose=PurposeOfUse.HRESCH)
    manifest = await exported(world, "Patient/$export", who)
    assert manifest["output"] == []
    opened = a_consent(
        "p1",
        type="permit",
        purpose=[{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}],
    )
    assert (await world.post("Consent", opened, rx1)).status_code == 201
    assert await ids(world, "Patient/$export?_type=Patient,Observation", who) == {
        "Patient": ["p1"],
        "Observation": ["o-p1"],
    }


async def test_a_file_is_ndjson_or_not_at_all(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    manifest = await exported(world, "Patient/$export?_type=Patient", rx1)
    path = manifest["output"][0]["url"].removeprefix(f"{world.base}/")
    for accepted in ("application/fhir+ndjson", "application/ndjson", "*/*", "text/csv, application/*;q=0.1"):
        assert (await world.get(path, rx1, Accept=accepted)).status_code == 200
    for refused in ("text/csv", "application/fhir+xml"):
        answer = await world.get(path, rx1, Accept=refused)
        assert answer.status_code == 406 and answer.json()["resourceType"] == "OperationOutcome"


# What is withheld.


async def _told(world: World, path: str, who: Who) -> str:
    """Everything that an export tells, without what is new each time."""
    begun = await kick_off(world, path, who)
    told = [begun.text, *map(str, sorted(begun.headers))]
    done = await complete(world, begun, who)
    told += [done.text, *map(str, sorted(done.headers))]
    if done.status_code == 200:
        for file in [*done.json()["output"], *done.json()["deleted"]]:
            answer = await world.get(file["url"].removeprefix(f"{world.base}/"), who)
            told += [answer.text, *map(str, sorted(answer.headers))]
    return opaque("\n".join(told))


HIDING = [
    "$export",
    "Patient/$export",
    "Patient/$export?_type=Observation,Condition",
    "$export?_since=2026-01-01T00:00:00Z",
    "Patient/$export?_typeFilter=Observation%3Fcode%3D8867-4,Observation%3Fcode%3D9279-1",
    "Patient/$export?_typeFilter=Observation%3Fsubject%3APatient.gender%3Dfemale",
    "Patient/$export?_type=Patient&_typeFilter=Patient%3F_has%3AObservation%3Apatient%3Acode%3D8867-4",
    "Group/g1/$export",
]


@pytest.mark.parametrize("path", HIDING)
async def test_what_is_hidden_might_as_well_not_exist(world: World, rx1: Who, rx2: Who, path: str) -> None:
    await a_ward(world, rx1)
    group = {
        "resourceType": "Group",
        "id": "g1",
        "type": "person",
        "actual": True,
        "member": [{"entity": {"reference": "Patient/p1"}}],
    }
    assert (await world.put("Group/g1", group, rx1)).status_code == 201
    without = await _told(world, path, rx2)
    assert "o-p1" in without or "_has" in path
    await world.patient(rx1, "hidden", None)
    await hide(world, rx1, "hidden")
    secret = [
        an_observation("hidden", id="secret"),
        an_observation("hidden", code="9279-1", id="secret2"),
        an_observation(
            "p1", id="secret3", performer=[{"reference": "Patient/hidden"}]
        ),  # about both: closed by one of them
        an_observation(
            "p1",
            id="secret4",
            meta={
                "security": [
                    {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}
                ]
            },
        ),
        json.dumps(
            {
                "resourceType": "Condition",
                "id": "secret5",
                "subject": {"reference": "Patient/hidden"},
                "code": {"text": "x"},
            }
        ),
        json.dumps(
            {
                "resourceType": "Provenance",
                "id": "secret6",
                "target": [{"reference": "Observation/secret"}],
                "recorded": "2026-03-01T10:00:00Z",
                "agent": [{"who": {"display": "x"}}],
            }
        ),
    ]
    for text in secret:
        body = json.loads(text)
        if path.startswith("$export") and body["resourceType"] == "Provenance":
            continue  # nobody's record: under nobody's consent, at this level as in a search
        made = await world.put(f"{body['resourceType']}/{body['id']}", text, rx1)
        assert made.status_code == 201, made.text
    gone = await world.put("Observation/gone", an_observation("hidden", id="gone"), rx1)
    assert gone.status_code == 201
    assert (await world.delete("Observation/gone", rx1)).status_code == 204
    assert await _told(world, path, rx2) == without


async def test_a_group_with_a_hidden_member_is_as_unknown_as_one_that_never_was(
    world: World, rx1: Who, rx2: Who
) -> None:
    await a_ward(world, rx1)
    await _group(world, rx1, "g1", "p1", "p2")
    assert (await kick_off(world, "Group/g1/$export", rx2)).status_code == 202
    await hide(world, rx1, "p2")
    refused = await kick_off(world, "Group/g1/$export", rx2)
    unknown = await kick_off(world, "Group/nothing/$export", rx2)
    assert refused.status_code == unknown.status_code == 404
    assert refused.text == unknown.text


async def test_a_hidden_patient_cannot_be_asked_for_by_name(world: World, rx1: Who, rx2: Who) -> None:
    await a_ward(world, rx1)
    await hide(world, rx1, "p2")
    answers = [
        await world.post("Patient/$export", _named("p1", other), rx2, **ASYNC) for other in ("p2", "nobody")
    ]
    assert [one.status_code for one in answers] == [400, 400]
    assert answers[0].text == answers[1].text


async def test_a_consent_that_is_withdrawn_closes_what_was_not_downloaded_yet(
    world: World, rx1: Who, rx2: Who
) -> None:
    await a_ward(world, rx1)
    await world.put("Condition/k", _condition("p1", "k"), rx1)
    manifest = await exported(world, "Patient/$export", rx2)
    files = {one["type"]: one["url"] for one in manifest["output"]}
    assert sorted(files) == ["Condition", "Observation", "Patient"]
    assert len(await lines(world, files["Observation"], rx2)) == 2
    await hide(world, rx1, "p1")
    assert [json.loads(one)["id"] for one in await lines(world, files["Observation"], rx2)] == ["o-p2"]
    assert [json.loads(one)["id"] for one in await lines(world, files["Patient"], rx2)] == ["p2"]
    assert await lines(world, files["Condition"], rx2) == []
    path = files["Patient"].rpartition("/")[0].removeprefix(f"{world.base}/")
    left = (await world.get(path, rx2)).json()
    assert [one["type"] for one in left["output"]] == ["Observation", "Patient"]


async def _many(world: World, who: Who, patient: str, count: int) -> None:
    entries = [
        {
            "resource": json.loads(an_observation(patient, id=f"{patient}-{number:04}")),
            "request": {"method": "PUT", "url": f"Observation/{patient}-{number:04}"},
        }
        for number in range(count)
    ]
    made = await world.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, who)
    assert made.status_code == 200, made.text


async def test_a_consent_that_is_withdrawn_while_a_file_leaves_closes_its_rest(
    world: World, rx1: Who, rx2: Who
) -> None:
    """Slices are decided as they leave, not when the file was asked for."""
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", DAVID, birthDate="1950-01-01")
    await _many(world, rx1, "p1", 300)
    await _many(world, rx1, "p2", 3)
    manifest = await exported(world, "Patient/$export?_type=Observation", rx2)
    job, file = manifest["output"][0]["url"].rsplit("/", 2)[1:]
    leaving = world.node.use_cases.disclosure.exporting.download(await _asked(world, rx2), job, file)
    first = await anext(leaving)
    assert len(first.receipts) == 1 and first.body.count("\n") == 250
    await hide(world, rx1, "p1")
    rest = [one async for one in leaving]
    assert [
        json.loads(one)["subject"]["reference"] for one in "".join(r.body for r in rest).splitlines()
    ] == ["Patient/p2"] * 3


async def test_a_file_ends_before_its_end_when_its_export_or_client_is_gone(world: World, rx1: Who) -> None:
    """And does not look whole: the connection breaks."""
    await world.patient(rx1, "p1")
    await _many(world, rx1, "p1", 251)
    manifest = await exported(world, "Patient/$export?_type=Observation", rx1)
    job, file = manifest["output"][0]["url"].rsplit("/", 2)[1:]
    download = world.node.use_cases.disclosure.exporting.download
    removed, deactivated = [download(await _asked(world, rx1), job, file) for _ in range(2)]
    assert [(await anext(one)).body.count("\n") for one in (removed, deactivated)] == [250, 250]
    assert (await world.delete(f"_export/{job}", rx1)).status_code == 202
    with pytest.raises(NotFound):
        [one async for one in removed]
    async with world.owner.connection() as connection:
        await connection.execute("UPDATE client SET active = false WHERE client_id = 'rx1'")
    with pytest.raises(NotAuthenticated):
        [one async for one in deactivated]


async def test_an_export_that_cannot_be_recorded_is_not_begun(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    async with world.owner.connection() as connection:
        await connection.execute("REVOKE INSERT ON audit_body FROM candour_app")
    assert (await kick_off(world, "Patient/$export", rx1)).status_code == 503
    async with world.owner.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM export_job WHERE state <> 'removed'") == 0


async def test_what_was_made_sensitive_since_is_not_told_in_its_open_version(
    world: World, rx1: Who, rx2: Who
) -> None:
    await a_ward(world, rx1)
    manifest = await exported(world, "Patient/$export?_type=Observation", rx2)
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    closed = an_observation("p1", id="o-p1", meta={"security": [label]})
    assert (await world.put("Observation/o-p1", closed, rx1)).status_code == 200
    assert len(await lines(world, manifest["output"][0]["url"], rx2)) == 1


async def test_what_was_changed_since_is_told_as_it_was_and_what_was_deleted_is_not(
    world: World, rx1: Who
) -> None:
    await a_ward(world, rx1)
    manifest = await exported(world, "Patient/$export?_type=Observation", rx1)
    await world.put("Observation/o-p1", an_observation("p1", id="o-p1", value="99"), rx1)
    await world.delete("Observation/o-p2", rx1)
    [line] = await lines(world, manifest["output"][0]["url"], rx1)
    assert json.loads(line)["meta"]["versionId"] == "1"
    assert json.loads(line)["valueQuantity"]["value"] == 72


# Whose job it is.


async def test_anothers_job_is_as_unknown_as_one_that_never_was(world: World, rx1: Who, rx2: Who) -> None:
    await a_ward(world, rx1)
    manifest = await exported(world, "Patient/$export?_type=Patient", rx1)
    file = manifest["output"][0]["url"].removeprefix(f"{world.base}/")
    job = file.rpartition("/")[0]
    never = "_export/00000000-0000-4000-8000-000000000000"
    research = await world.bearer("rx1", purpose=PurposeOfUse.HRESCH)
    for who in (rx2, research):
        for path, other in ((job, never), (file, f"{never}/{file.rpartition('/')[2]}")):
            refused, unknown = await world.get(path, who), await world.get(other, who)
            assert refused.status_code == unknown.status_code == 404
            assert refused.text == unknown.text
        assert (await world.delete(job, who)).status_code == 404
    for malformed in ("_export/x", f"{job}/x", "_export/x/y", f"{job}/notes"):
        assert (await world.get(malformed, rx1)).status_code == 404
    assert (await world.get(job, rx1)).status_code == 200
    again = await world.bearer("rx1")
    assert (await world.get(file, again)).status_code == 200


async def test_a_token_with_less_scope_gets_less(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    manifest = await exported(world, "Patient/$export?_type=Patient,Observation", rx1)
    files = {one["type"]: one["url"].removeprefix(f"{world.base}/") for one in manifest["output"]}
    few = await world.bearer("rx1", scope="system/Patient.rs")
    assert (await world.get(files["Patient"], few)).status_code == 200
    assert (await world.get(files["Observation"], few)).status_code == 403
    assert (await world.get(files["Patient"].rpartition("/")[0], few)).status_code == 403
    assert (await world.http.get(f"/fhir/{files['Patient']}")).status_code == 401


async def test_a_job_expires(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    manifest = await exported(world, "Patient/$export?_type=Patient", rx1)
    file = manifest["output"][0]["url"].removeprefix(f"{world.base}/")
    await _set(world, "expires_at = now() - interval '1 minute'")
    assert (await world.get(file, rx1)).status_code == 404
    assert (await world.get(file.rpartition("/")[0], rx1)).status_code == 404
    await _set(world, "expires_at = now() - interval '2 hours'")
    kept = world.node.use_cases.disclosure.exporting._at.exports
    while await kept.sweep():
        pass
    async with world.owner.connection() as connection:
        for table in ("export_job", "export_pointer", "export_file"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_a_removed_job_is_not_made_any_further(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    async with _held_up(world):
        lenient = "respond-async, handling=lenient"
        begun = await kick_off(world, "Patient/$export?x=y", rx1, Prefer=lenient)
        path = begun.headers["content-location"].removeprefix(f"{world.base}/")
        assert (await world.get(path, rx1)).status_code == 202
        assert (await world.get(f"{path}/notes", rx1)).status_code == 404
        file = f"{path}/00000000-0000-4000-8000-000000000000"
        assert (await world.get(file, rx1)).status_code == 404
        assert (await world.delete(path, rx1)).status_code == 202
    assert (await world.get(path, rx1)).status_code == 404
    await asyncio.sleep(0.3)
    async with world.owner.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM export_job WHERE state <> 'removed'") == 0


async def test_a_client_makes_few_exports_at_once(world: World, rx1: Who, rx2: Who) -> None:
    async with _held_up(world):
        for _ in range(2):
            assert (await kick_off(world, "Patient/$export", rx1)).status_code == 202
        refused = await kick_off(world, "Patient/$export", rx1)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["issue"][0]["code"] == "throttled"
        assert (await kick_off(world, "Patient/$export", rx2)).status_code == 202


async def test_a_client_keeps_a_bounded_number_of_exports(world: World, rx1: Who) -> None:
    await exported(world, "Patient/$export?_type=Patient", rx1)
    async with world.owner.connection() as connection:
        await connection.execute(
            """
            INSERT INTO export_job (id, client_id, bound_to, asked, transaction_time, state, expires_at)
            SELECT gen_random_uuid(), client_id, bound_to, asked, transaction_time, state, expires_at
            FROM export_job, generate_series(1, 49)
            """
        )
    refused = await kick_off(world, "Patient/$export", rx1)
    assert refused.status_code == 429 and "Delete" in refused.text


# Patients and groups.


async def _group(world: World, who: Who, id: str, *patients: str, **more: Any) -> None:
    group = {
        "resourceType": "Group",
        "id": id,
        "type": "person",
        "actual": True,
        "member": [{"entity": {"reference": f"Patient/{one}"}} for one in patients],
    }
    made = await world.put(f"Group/{id}", {**group, **more}, who)
    assert made.status_code in (200, 201), made.text


def _named(*patients: str) -> dict[str, Any]:
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "patient", "valueReference": {"reference": f"Patient/{one}"}} for one in patients
        ],
    }


def _condition(patient: str, id: str) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": id,
        "subject": {"reference": f"Patient/{patient}"},
        "code": {"text": "x"},
    }


async def test_a_group_is_exported_by_its_active_members(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    members: list[dict[str, Any]] = [
        {"entity": {"reference": "Patient/p1"}},
        {"entity": {"reference": "Patient/p2"}, "inactive": True},
    ]
    await _group(world, rx1, "g1", member=members)
    found = await ids(world, "Group/g1/$export", rx1)
    assert found == {"Group": ["g1"], "Observation": ["o-p1"], "Patient": ["p1"]}
    await _group(world, rx1, "empty", member=[{**members[0], "inactive": True}])
    assert await ids(world, "Group/empty/$export", rx1) == {}
    chosen = await world.post("Group/g1/$export", _named("p1"), rx1, **ASYNC)
    assert (await complete(world, chosen, rx1)).status_code == 200
    stranger = await world.post("Group/g1/$export", _named("p2"), rx1, **ASYNC)
    assert stranger.status_code == 400


async def test_a_member_is_a_person_with_every_record_of_theirs(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "q1")
    await world.put("Observation/o-q1", an_observation("q1", id="o-q1"), rx2)
    await _group(world, rx1, "g1", "p1")
    found = await ids(world, "Group/g1/$export?_type=Patient,Observation", rx1)
    assert found == {"Patient": ["p1", "q1"], "Observation": ["o-q1"]}


async def test_a_patient_who_was_not_asked_for_stays_out(world: World, rx1: Who) -> None:
    """Bulk Data: no resource in the compartment of a patient who is not in the list."""
    await a_ward(world, rx1)
    both = an_observation("p1", id="both", performer=[{"reference": "Patient/p2"}])
    assert (await world.put("Observation/both", both, rx1)).status_code == 201

    async def named(*patients: str) -> list[str]:
        begun = await world.post("Patient/$export?_type=Observation", _named(*patients), rx1, **ASYNC)
        found = await everything(world, (await complete(world, begun, rx1)).json(), rx1)
        return sorted(json.loads(one)["id"] for one in found.get("Observation", []))

    assert await named("p1") == ["o-p1"]
    assert await named("p2") == ["o-p2"]
    assert await named("p2", "p1") == ["both", "o-p1", "o-p2"]
    await _group(world, rx1, "g1", "p2")
    assert await ids(world, "Group/g1/$export?_type=Observation", rx1) == {"Observation": ["both", "o-p2"]}


async def test_what_tells_where_a_record_comes_from_is_exported_with_it(world: World, rx1: Who) -> None:
    """Bulk Data: Provenance whose target is in the patients' compartments SHALL come along."""
    await a_ward(world, rx1)
    await world.put("Organization/org", {"resourceType": "Organization", "id": "org", "name": "A"}, rx1)
    for id, target in (("v1", "Observation/o-p1"), ("v2", "Observation/o-p2"), ("v3", "Organization/org")):
        body = {
            "resourceType": "Provenance",
            "id": id,
            "target": [{"reference": target}],
            "recorded": "2026-03-01T10:00:00Z",
            "agent": [{"who": {"display": "x"}}],
        }
        assert (await world.put(f"Provenance/{id}", body, rx1)).status_code == 201
    assert (await ids(world, "Patient/$export", rx1))["Provenance"] == ["v1", "v2"]
    await _group(world, rx1, "g1", "p1")
    assert (await ids(world, "Group/g1/$export", rx1))["Provenance"] == ["v1"]
    assert (await ids(world, "$export", rx1))["Provenance"] == ["v1", "v2", "v3"]


async def test_a_patients_binary_is_told_by_its_document_reference(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    for id, context in (("b1", {"securityContext": {"reference": "Patient/p1"}}), ("b2", {})):
        body = {"resourceType": "Binary", "id": id, "contentType": "text/plain", "data": "eA==", **context}
        assert (await world.put(f"Binary/{id}", body, rx1)).status_code == 201
    assert await ids(world, "$export?_type=Binary", rx1) == {"Binary": ["b2"]}


# Filters and instants.


async def test_filters_of_one_type_are_alternatives(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    await world.put("Observation/a", an_observation("p1", code="9279-1", id="a", status="amended"), rx1)
    await world.put("Observation/b", an_observation("p1", code="9279-1", id="b"), rx1)
    await world.put("Condition/k", _condition("p1", "k"), rx1)

    async def filtered(*filters: str) -> dict[str, list[str]]:
        query = httpx.QueryParams(
            [("_type", "Observation,Condition"), *(("_typeFilter", one) for one in filters)]
        )
        return await ids(world, f"Patient/$export?{query}", rx1)

    both = "Observation?code=http://loinc.org|9279-1&status=amended"
    assert await filtered(both) == {"Observation": ["a"], "Condition": ["k"]}
    either = "Observation?code=9279-1&status=amended,Observation?patient=Patient/p2"
    assert await filtered(either) == {"Observation": ["a", "o-p2"], "Condition": ["k"]}
    assert await filtered(both, "Observation?patient=p2") == {
        "Observation": ["a", "o-p2"],
        "Condition": ["k"],
    }
    assert (await filtered("Observation?status=amended,final"))["Observation"] == ["a", "b", "o-p1", "o-p2"]
    assert await filtered("Observation?subject:Patient.birthdate=1950-01-01") == {
        "Observation": ["o-p2"],
        "Condition": ["k"],
    }
    assert await filtered("Observation?date=ge2026-03-01T10:00:00%2B00:00&code:not=9279-1") == {
        "Observation": ["o-p1", "o-p2"],
        "Condition": ["k"],
    }
    assert await filtered("Observation?_filter=code eq 9279-1 and not (status eq final)") == {
        "Observation": ["a"],
        "Condition": ["k"],
    }
    assert await filtered("Condition?_content=nothing", "Observation?_content=amended") == {
        "Observation": ["a"]
    }
    assert await filtered("Observation?code=nothing") == {"Condition": ["k"]}
    assert await filtered("Condition?code:text=y", both) == {"Observation": ["a"]}


async def test_a_filter_applies_within_a_group(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    await _group(world, rx1, "g1", "p1", "p2")
    born = "Observation%3Fsubject%3APatient.birthdate%3D1950-01-01"
    path = f"Group/g1/$export?_type=Observation,Patient&_typeFilter={born}"
    assert await ids(world, path, rx1) == {"Observation": ["o-p2"], "Patient": ["p1", "p2"]}


async def test_since_tells_what_was_changed_and_what_was_deleted(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    for id in ("x", "y", "unchanged"):
        await world.put(f"Observation/{id}", an_observation("p1", id=id), rx1)
    first = await exported(world, "Patient/$export", rx1)
    assert first["deleted"] == []
    since = first["transactionTime"]
    await world.put("Observation/o-p1", an_observation("p1", id="o-p1", value="99"), rx1)
    await world.put("Observation/new", an_observation("p2", id="new"), rx1)
    for id in ("x", "y"):
        await world.delete(f"Observation/{id}", rx1)
    await world.put("Observation/y", an_observation("p1", id="y"), rx1)
    await _group(world, rx1, "g1", "p1")
    for path, expected in (
        ("Patient/$export", ["new", "o-p1", "y"]),
        ("$export", ["new", "o-p1", "y"]),
        ("Group/g1/$export", ["o-p1", "y"]),
    ):
        manifest = await exported(world, f"{path}?_type=Observation&_since={since}", rx1)
        found = await everything(world, manifest, rx1)
        assert sorted(json.loads(one)["id"] for one in found["Observation"]) == expected
        [file] = manifest["deleted"]
        assert file["type"] == "Bundle"
        [line] = await lines(world, file["url"], rx1)
        bundle = json.loads(line)
        assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
        assert bundle["entry"] == [{"request": {"method": "DELETE", "url": "Observation/x"}}]
    await world.put("Observation/x", an_observation("p1", id="x"), rx1)
    assert await lines(world, file["url"], rx1) == []  # it is there again
    nothing = await exported(
        world, f"Patient/$export?_since={manifest['transactionTime']}&_type=Patient", rx1
    )
    assert (nothing["output"], nothing["deleted"]) == ([], [])


async def test_a_deletion_is_told_to_who_might_have_read_the_record_alone(
    world: World, rx1: Who, rx2: Who
) -> None:
    await a_ward(world, rx1)
    since = (await exported(world, "Patient/$export?_type=Patient", rx2))["transactionTime"]
    for id in ("o-p1", "o-p2"):
        await world.delete(f"Observation/{id}", rx1)
    await hide(world, rx1, "p1")
    path = f"Patient/$export?_type=Observation&_since={since}"
    [file] = (await exported(world, path, rx2))["deleted"]
    assert "Observation/o-p2" in (await lines(world, file["url"], rx2))[0]
    assert "Observation/o-p1" not in "".join(await lines(world, file["url"], rx2))
    async with world.owner.connection() as connection:
        kept = await connection.fetch("SELECT id FROM export_pointer WHERE deleted")
    assert [row["id"] for row in kept] == ["o-p2"], "nothing points to what the caller may not know of"
    await hide(world, rx1, "p2")
    assert await lines(world, file["url"], rx2) == []
    assert (await exported(world, path, rx2))["deleted"] == []


async def test_until_leaves_out_what_was_changed_later(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    first = await exported(world, "Patient/$export?_type=Patient", rx1)
    await world.put("Observation/late", an_observation("p1", id="late"), rx1)
    until = first["transactionTime"]
    assert await ids(world, f"Patient/$export?_type=Observation&_until={until}", rx1) == {
        "Observation": ["o-p1", "o-p2"]
    }


# Processes that come and go.


class _held_up:  # noqa: N801  # reads as a clause: ``async with _held_up(world):``
    """While a transaction that has written something is open, no export is made."""

    def __init__(self, world: World) -> None:
        self._connecting = world.owner.connection()

    async def __aenter__(self) -> None:
        self._connection = await self._connecting.__aenter__()
        self._transaction = self._connection.transaction()
        await self._transaction.start()
        await self._connection.execute("CREATE TABLE held_up (x integer)")

    async def __aexit__(self, *error: Any) -> None:
        await self._transaction.rollback()
        await self._connecting.__aexit__(*error)


async def _set(world: World, assignment: str) -> None:
    async with world.owner.connection() as connection:
        await connection.execute(f"UPDATE export_job SET {assignment}")


async def _asked(world: World, who: Who) -> Asked:
    headers = [(b"authorization", who["Authorization"].encode())]
    scope = {"type": "http", "method": "GET", "path": "/fhir/x", "query_string": b"", "headers": headers}
    return world.node.use_cases.door.asked(HttpRequest(scope), Interaction.EXPORT)


async def test_what_is_being_written_when_an_export_begins_is_in_it(world: World, rx1: Who) -> None:
    """A write that bears an instant before the export's, and is committed after it was begun."""
    await a_ward(world, rx1)
    async with world.owner.connection() as connection, connection.transaction():
        await connection.execute(
            """
            INSERT INTO resource_home SELECT resource_type, 'slow', patient_key FROM resource_home WHERE id = 'o-p1'
            """
        )
        await connection.execute(
            """
            INSERT INTO resource (patient_key, resource_type, id, custodian, version, last_updated, content,
                confidentiality)
            SELECT patient_key, resource_type, 'slow', custodian, 1, last_updated,
                replace(content, 'o-p1', 'slow'), confidentiality FROM resource WHERE id = 'o-p1'
            """
        )
        begun = await kick_off(world, "Patient/$export?_type=Observation", rx1)
        await asyncio.sleep(0.7)
        path = begun.headers["content-location"].removeprefix(f"{world.base}/")
        assert (await world.get(path, rx1)).status_code == 202
    found = await everything(world, (await complete(world, begun, rx1)).json(), rx1)
    assert sorted(json.loads(one)["id"] for one in found["Observation"]) == ["o-p1", "o-p2", "slow"]


@pytest.mark.parametrize("path", ["Patient/$export", "Group/g1/$export"])
async def test_what_is_written_after_an_export_was_begun_is_not_in_it(
    world: World, rx1: Who, path: str
) -> None:
    await a_ward(world, rx1)
    await world.put("Observation/third", an_observation("p1", id="third", code="9279-1"), rx1)
    await _group(world, rx1, "g1", "p1", "p2")
    since = (await exported(world, f"{path}?_type=Patient", rx1))["transactionTime"]
    for value in ("73", "74"):
        await world.put("Observation/o-p1", an_observation("p1", id="o-p1", value=value), rx1)
    async with _held_up(world):
        begun = await kick_off(world, f"{path}?_type=Observation&_since=2026-01-01T00:00:00Z", rx1)
        of_a_code = "_typeFilter=Observation%3Fcode%3D8867-4"
        filtered = await kick_off(world, f"{path}?_type=Observation&{of_a_code}", rx1)
        await _set(world, "client_id = 'another'")  # of one client no third is made at once
        recent = await kick_off(world, f"{path}?_type=Observation&_since={since}", rx1)
        await world.put("Observation/new", an_observation("p1", id="new"), rx1)
        await world.put("Observation/o-p1", an_observation("p1", id="o-p1", value="99"), rx1)
        await world.put("Observation/third", an_observation("p1", id="third"), rx1)
        await world.delete("Observation/o-p2", rx1)
    assert await _versions(world, begun, rx1) == {"o-p1": "3", "third": "1"}
    assert await _versions(world, recent, rx1) == {"o-p1": "3"}
    # Of a type with filters what was changed meanwhile comes as it is, for it is that which fulfils them.
    assert await _versions(world, filtered, rx1) == {"o-p1": "4", "third": "2"}


async def _versions(world: World, begun: httpx.Response, who: Who) -> dict[str, str]:
    found = await everything(world, (await complete(world, begun, who)).json(), who)
    told = [json.loads(one) for one in found["Observation"]]
    return {one["id"]: one["meta"]["versionId"] for one in told}


async def test_another_process_goes_on_where_a_killed_one_was(
    world: World, rx1: Who, postgres: Server, database_name: str, tmp_path: Path
) -> None:
    """The first step's pointers are kept, and its process never comes back."""
    await a_ward(world, rx1)
    for number in range(5):
        await world.put(f"Observation/n{number}", an_observation("p1", id=f"n{number}"), rx1)
    exporting = world.node.use_cases.disclosure.exporting
    await exporting.making.stop()
    begun = await kick_off(world, "Patient/$export?_type=Observation,Patient", rx1)
    killed = UUID(int=1)
    kept = exporting._at.exports
    job = await kept.take(killed)
    assert job is not None
    assert await kept.take(UUID(int=2)) is None, "it is leased"
    plan = making.Plan.of(job)
    step = await exporting.making._selection.slice(job.id, plan, plan.steps[0], (), 3)
    assert len(step.live) == 3
    place = making.Place(0, tuple(step.after), True)
    await kept.keep(job.id, killed, step.live, [], place.saved())
    # … and here it was killed.
    url = postgres.url(user=APPLICATION_ROLE, database=database_name)
    chosen = Settings(home=tmp_path, custodians="RX1,RX2")
    async with services(chosen, url) as node:
        await asyncio.sleep(0.3)
        path = begun.headers["content-location"].removeprefix(f"{world.base}/")
        assert (await world.get(path, rx1)).status_code == 202, "nobody may go on while the lease lasts"
        await _set(world, "lease_until = now()")
        node.use_cases.disclosure.exporting.making.look()
        transport = httpx.ASGITransport(app=create_app(node))
        async with httpx.AsyncClient(transport=transport, base_url="http://node.test") as http:
            other = World(node, world.owner, http)
            manifest = (await complete(other, begun, rx1)).json()
            found = await everything(other, manifest, rx1)
        assert sorted(json.loads(one)["id"] for one in found["Observation"]) == [
            *(f"n{number}" for number in range(5)),
            "o-p1",
            "o-p2",
        ]
        with pytest.raises(exports.LostLease):
            await kept.keep(job.id, killed, step.live, [], place.saved())
        with pytest.raises(exports.LostLease):
            await kept.finish(job.id, killed)


async def test_a_service_that_ends_leaves_its_job_to_the_others(
    world: World, rx1: Who, postgres: Server, database_name: str, tmp_path: Path
) -> None:
    await a_ward(world, rx1)
    async with _held_up(world):
        begun = await kick_off(world, "Patient/$export", rx1)
        await asyncio.sleep(0.5)
        await world.node.use_cases.disclosure.exporting.making.stop()
    url = postgres.url(user=APPLICATION_ROLE, database=database_name)
    async with services(Settings(home=tmp_path, custodians="RX1,RX2"), url):
        assert (await complete(world, begun, rx1)).status_code == 200


async def test_many_processes_make_an_export_once(
    world: World, rx1: Who, postgres: Server, database_name: str, tmp_path: Path
) -> None:
    await a_ward(world, rx1)
    url = postgres.url(user=APPLICATION_ROLE, database=database_name)
    async with services(Settings(home=tmp_path, custodians="RX1,RX2"), url) as second:
        assert second.use_cases.disclosure.exporting is not world.node.use_cases.disclosure.exporting
        for _ in range(3):
            assert await ids(world, "Patient/$export?_type=Observation", rx1) == {
                "Observation": ["o-p1", "o-p2"]
            }


async def test_a_job_of_a_client_that_is_registered_no_more_is_not_made(world: World, rx1: Who) -> None:
    await a_ward(world, rx1)
    async with _held_up(world):
        await kick_off(world, "Patient/$export", rx1)
        async with world.owner.connection() as connection:
            await connection.execute("UPDATE client SET active = false WHERE client_id = 'rx1'")
        await _set(world, "leased_by = NULL, lease_until = now()")
    async with world.owner.connection() as connection:
        for _ in range(200):
            state = await connection.fetchval("SELECT state FROM export_job")
            if state != "making":
                break
            await asyncio.sleep(0.05)
    assert state == "failed"


async def test_a_step_that_fails_again_and_again_ends_the_job_with_a_safe_word(
    world: World, rx1: Who
) -> None:
    await a_ward(world, rx1)
    exporting = world.node.use_cases.disclosure.exporting
    await exporting.making.stop()
    gate, finding = exporting._gate, exporting._finding
    worker = making.Making(exporting._at, gate, finding, Lookups(gate, finding))
    begun = await kick_off(world, "Patient/$export", rx1)
    await _set(world, """place = '{"step": 0, "after": ["nonsense", "x"], "settled": true}'""")
    for _ in range(5):
        await _set(world, "lease_until = now()")
        assert await worker._turn()
    answer = await complete(world, begun, rx1)
    assert answer.status_code == 500
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert "nonsense" not in answer.text


async def test_slices_are_small_and_files_are_bounded(world: World, rx1: Who, database: Database) -> None:
    """Through many slices and several files nothing is lost, doubled or out of place."""
    await a_ward(world, rx1)
    for number in range(12):
        patient = "p1" if number % 2 else "p2"
        text = an_observation(patient, id=f"n{number:02}")
        await world.put(f"Observation/n{number:02}", text, rx1)
    async with world.owner.connection() as connection:  # as after a bundle: at one instant
        await connection.execute(
            "UPDATE resource SET last_updated = last_updated - interval '1 h' WHERE id = 'n00'"
        )
        await connection.execute(
            "UPDATE resource SET last_updated = (SELECT last_updated FROM resource WHERE id = 'n00')"
        )
    exporting = world.node.use_cases.disclosure.exporting
    await exporting.making.stop()
    begun = await kick_off(world, "Patient/$export?_type=Observation", rx1)
    kept, worker = exporting._at.exports, UUID(int=7)
    job = await kept.take(worker)
    assert job is not None
    plan, place = making.Plan.of(job), making.Place(settled=True)
    while place.step < len(plan.steps):
        found = await exporting.making._selection.slice(job.id, plan, plan.steps[place.step], place.after, 5)
        place = (
            making.Place(place.step + 1, (), True)
            if found.looked_at < 5
            else making.Place(place.step, tuple(found.after), True)
        )
        await kept.keep(job.id, worker, found.live, found.deleted, place.saved())
    async with world.owner.connection() as connection:
        await connection.execute(exports._DIVIDE, job.id, 4)
        await connection.execute("UPDATE export_job SET state = 'made'")
    manifest = (await complete(world, begun, rx1)).json()
    files = [await lines(world, one["url"], rx1) for one in manifest["output"]]
    assert [len(one) for one in files] == [4, 4, 4, 2]
    every = [json.loads(one)["id"] for file in files for one in file]
    assert sorted(every) == sorted({"o-p1", "o-p2", *(f"n{number:02}" for number in range(12))})
    assert len(every) == 14


# The audit log.


async def test_each_person_in_a_slice_has_an_entry_before_it_leaves(world: World, rx1: Who, rx2: Who) -> None:
    await a_ward(world, rx1)
    await hide(world, rx1, "p2")
    manifest = await exported(world, "Patient/$export?_type=Observation,Patient", rx2)
    before = len(await world.audit())
    url = next(one["url"] for one in manifest["output"] if one["type"] == "Observation")
    await lines(world, url, rx2)
    [event] = (await world.audit())[before:]
    assert event["type"]["code"] == "110106"
    assert event["subtype"][0]["code"] == "disclose"
    assert any(one.endswith("PrivacyDisclosure.Source") for one in event["meta"]["profile"])
    references = [one["what"].get("reference") for one in event["entity"]]
    assert "Patient/p1" in references and "Observation/o-p1/_history/1" in references
    assert not any("p2" in (one or "") for one in references)


async def test_every_request_of_an_export_leaves_an_entry(world: World, rx1: Who, rx2: Who) -> None:
    await a_ward(world, rx1)
    await _group(world, rx1, "g1", "p1", "p2")

    async def grows_by(count: int, answer: Any) -> httpx.Response:
        before = len(await world.audit())
        found: httpx.Response = await answer
        assert len(await world.audit()) == before + count
        return found

    begun = await grows_by(1, kick_off(world, "Patient/$export?_type=Patient", rx1))
    manifest = (await complete(world, begun, rx1)).json()
    path = begun.headers["content-location"].removeprefix(f"{world.base}/")
    file = manifest["output"][0]["url"].removeprefix(f"{world.base}/")
    await grows_by(1, world.get(path, rx1))
    await grows_by(2, world.get(file, rx1))
    await grows_by(1, world.get(path, rx2))
    await grows_by(1, world.get(file, rx2))
    await grows_by(1, world.delete(path, rx1))
    await grows_by(1, kick_off(world, "$export?foo=bar", rx1))
    await grows_by(2, kick_off(world, "Group/g1/$export", rx1))
    await grows_by(1, world.post("Patient/$export", _named("p1"), rx2, **ASYNC))
    told = {one.get("what", {}).get("reference"): one for one in (await world.audit())[-1]["entity"]}
    assert {"Patient/p1", "Patient/p1/_history/1"} <= told.keys()
    assert "default" in json.dumps((await world.audit())[-1]["entity"][-1]), "on which basis it is known"
    await grows_by(1, world.post("Patient/$export", _named("nobody"), rx2, **ASYNC))


async def test_an_export_is_advertised(world: World) -> None:
    statement = (await world.http.get("/fhir/metadata")).json()
    base = "http://hl7.org/fhir/uv/bulkdata"
    assert statement["instantiates"] == [f"{base}/CapabilityStatement/bulk-data"]
    [rest] = statement["rest"]
    assert {"name": "export", "definition": f"{base}/OperationDefinition/export"} in rest["operation"]
    for kind in ("Patient", "Group"):
        [found] = [one for one in rest["resource"] if one["type"] == kind]
        definition = f"{base}/OperationDefinition/{kind.lower()}-export"
        assert {"name": "export", "definition": definition} in found["operation"]
