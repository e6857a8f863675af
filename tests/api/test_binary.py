"""Binary: bytes in and out as they are, and never to anybody whom their owner's record is withheld from."""

import base64
import json
from typing import Any

import pytest

from tests.world import World, a_consent, denied_to

Who = dict[str, str]
PDF = b"%PDF-1.7\n\x00\xff not really"
FHIR = {"Accept": "application/fhir+json"}


def a_document(id: str, patient: str = "p1", url: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": id,
        "status": "current",
        "subject": {"reference": f"Patient/{patient}"},
        "content": [
            {"attachment": {"contentType": "application/pdf", **({"url": url} if url else {"title": "x"})}}
        ],
        **more,
    }


def a_binary(id: str, context: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Binary",
        "id": id,
        "contentType": "application/pdf",
        **({"securityContext": {"reference": context}} if context else {}),
        "data": base64.b64encode(PDF).decode(),
        **more,
    }


async def sent(world: World, who: Who, method: str = "POST", path: str = "Binary", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await world.http.request(
        method, f"/fhir/{path}", content=PDF, headers={**who, "Content-Type": "application/pdf", **named}
    )


async def kept(world: World, who: Who, id: str, context: str | None) -> None:
    made = await world.put(f"Binary/{id}", a_binary(id, context), who)
    assert made.status_code in (200, 201), made.text


async def indistinguishable(world: World, who: Who, id: str) -> None:
    """What is withheld is answered as what never was, in both forms, by id, by version and in a search."""
    for accept in ("application/pdf", "application/fhir+json"):
        for rest in ("", "/_history/1", "/_history")[: 2 if accept == "application/pdf" else 3]:
            hidden = await world.get(f"Binary/{id}{rest}", who, Accept=accept)
            absent = await world.get(f"Binary/there-is-none{rest}", who, Accept=accept)
            assert (hidden.status_code, hidden.content) == (404, absent.content)
            assert set(hidden.headers) == set(absent.headers)
    found = await world.get(f"Binary?_id={id}&_total=accurate", who)
    none = await world.get("Binary?_id=none&_total=accurate", who)
    assert found.text.replace(id, "none") == none.text and found.json()["total"] == 0
    batch = {"resourceType": "Bundle", "type": "batch"}
    answers = [
        await world.post(
            "", {**batch, "entry": [{"request": {"method": "GET", "url": f"Binary/{one}"}}]}, who
        )
        for one in (id, "none")
    ]
    assert answers[0].text == answers[1].text


# Bytes.


async def test_bytes_are_kept_and_come_back_as_they_were(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    made = await sent(world, rx1, X_Security_Context="Patient/p1")
    assert (made.status_code, made.content) == (201, b""), "bytes just sent are not sent back"
    assert made.headers["etag"] == 'W/"1"'
    path = made.headers["location"].split("/fhir/")[1].split("/_history")[0]
    for headers in ({}, {"Accept": "application/pdf"}, {"Accept": "*/*"}, {"Accept": "image/png"}):
        read = await world.get(path, rx1, **headers)
        assert (read.status_code, read.content) == (200, PDF)
        assert read.headers["content-type"] == "application/pdf"
        assert read.headers["x-security-context"] == "Patient/p1"
        assert read.headers["etag"] == 'W/"1"' and "last-modified" in read.headers
        assert read.headers["accept-ranges"] == "none"
        assert read.headers["vary"] == "Accept, Accept-Encoding"
        assert read.headers["cache-control"] == "no-store"
    assert (await world.get(f"{path}/_history/1", rx1)).content == PDF
    assert (await world.get(path, rx1, If_None_Match='W/"1"')).status_code == 304
    part = await world.get(path, rx1, Range="bytes=0-3")
    assert (part.status_code, part.content) == (200, PDF), "ranges are not offered"


async def test_the_resource_is_there_for_who_names_it(world: World, rx1: Who) -> None:
    await kept(world, rx1, "b1", None)
    for path, headers in (
        ("Binary/b1", FHIR),
        ("Binary/b1?_format=json", {}),
        ("Binary/b1?_format=json", {"Accept": "application/pdf"}),
        ("Binary/b1?_elements=data", {}),
        ("Binary/b1", {"Accept": "application/json"}),
        ("Binary/b1/_history/1", FHIR),
    ):
        read = await world.get(path, rx1, **headers)
        assert base64.b64decode(read.json()["data"]) == PDF, path
        assert read.headers["content-type"].startswith("application/fhir+json")
    assert "<Binary" in (await world.get("Binary/b1", rx1, Accept="application/fhir+xml")).text
    assert (await world.get("Binary?_id=b1", rx1, Accept="application/pdf")).status_code == 406
    refused = await world.get("Binary/b1", rx1, Accept="application/pdf;q=0")
    assert refused.status_code == 406 and refused.json()["resourceType"] == "OperationOutcome"


async def test_put_keeps_bytes_under_the_callers_id_and_makes_versions(world: World, rx1: Who) -> None:
    assert (await sent(world, rx1, "PUT", "Binary/b1")).status_code == 201
    again = await sent(world, rx1, "PUT", "Binary/b1")
    assert (again.status_code, again.headers["etag"]) == (200, 'W/"1"')
    told = await sent(
        world, rx1, "PUT", "Binary/b1", Prefer="return=representation", Accept="application/pdf"
    )
    assert told.json()["contentType"] == "application/pdf"
    stale = await sent(world, rx1, "PUT", "Binary/b1", If_Match='W/"7"')
    assert stale.status_code == 412


async def test_what_is_fhir_but_no_binary_is_content(world: World, rx1: Who) -> None:
    """R4: accepted as is, "except for the special case where the content is actually a Binary resource"."""
    patient = b'{"resourceType": "Patient",   "active": true}'
    for media in ("application/fhir+json", "application/json"):
        made = await world.http.post("/fhir/Binary", content=patient, headers={**rx1, "Content-Type": media})
        assert made.status_code == 201, made.text
        read = await world.get(made.headers["location"].split("/fhir/")[1].split("/_history")[0], rx1)
        assert (read.content, read.headers["content-type"]) == (patient, media)
    cda = b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>'
    made = await world.http.post("/fhir/Binary", content=cda, headers={**rx1, "Content-Type": "text/xml"})
    assert made.status_code == 201, made.text
    as_xml = (
        b'<Binary xmlns="http://hl7.org/fhir"><contentType value="text/plain"/><data value="aGk="/></Binary>'
    )
    for media in ("application/fhir+xml", "application/xml"):
        made = await world.http.post("/fhir/Binary", content=as_xml, headers={**rx1, "Content-Type": media})
        assert made.json()["contentType"] == "text/plain"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"resourceType":"Binary","contentType":', {"Content-Type": "application/fhir+json"}, 400),
        (b"<Binary", {"Content-Type": "application/fhir+xml"}, 400),
        (b"bytes", {"Content-Type": "nonsense"}, 415),
        (b"bytes", {"Content-Type": ""}, 415),
        (b"bytes", {"Content-Type": "a/b", "X-Security-Context": "has space"}, 400),
        (b"bytes", {"Content-Type": "a/b", "X-Security-Context": "Patient/nul\x00"}, 400),
        (b"bytes", {"Content-Type": "a/b", "X-Security-Context": "Binary/other"}, 422),
        (b"bytes", {"Content-Type": "a/b", "X-Security-Context": "DocumentReference/none"}, 422),
        (
            b"bytes",
            {"Content-Type": "a/b", "X-Security-Context": "https://other.example/fhir/Patient/p1"},
            422,
        ),
        (
            b'{"resourceType":"Binary","contentType":"a/b"}',
            {"Content-Type": "application/fhir+json", "X-Security-Context": "Patient/p1"},
            400,
        ),
    ],
)
async def test_what_cannot_be_kept_is_refused_in_a_sentence(
    body: bytes, headers: Who, status: int, world: World, rx1: Who
) -> None:
    before = len(await world.audit())
    answer = await world.http.post("/fhir/Binary", content=body, headers={**rx1, **headers})
    assert answer.status_code == status, answer.text
    assert answer.json()["issue"][0]["diagnostics"]
    assert len(await world.audit()) == before + 1


async def test_stored_html_never_runs_here(world: World, rx1: Who) -> None:
    page = b"<script>fetch('/fhir/Patient')</script>"
    made = await world.http.post("/fhir/Binary", content=page, headers={**rx1, "Content-Type": "text/html"})
    read = await world.get(made.headers["location"].split("/fhir/")[1], rx1, Accept="text/html")
    assert (read.content, read.headers["content-type"]) == (page, "text/html")
    assert read.headers["x-content-type-options"] == "nosniff"
    assert read.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert read.headers["content-disposition"] == "attachment"


# Whose they are.


async def test_bytes_of_a_patient_are_under_that_patients_consent(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await kept(world, rx1, "b1", "Patient/p1")
    assert (await world.get("Binary/b1", rx2)).content == PDF
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    await indistinguishable(world, rx2, "b1")
    assert (await world.get("Binary/b1", rx1)).content == PDF


async def test_bytes_of_a_document_are_under_its_patients_consent_and_in_their_audit_trail(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.put("DocumentReference/d1", a_document("d1", url="Binary/b1"), rx1)
    await kept(world, rx1, "b1", "DocumentReference/d1")
    assert (await world.get("Binary/b1", rx2)).content == PDF
    later = await world.put("Binary/b1", a_binary("b1", "DocumentReference/d1", contentType="image/png"), rx1)
    assert (later.status_code, later.headers["etag"]) == (200, 'W/"2"'), later.text
    assert (await world.get("Binary/b1/_history/1", rx2)).content == PDF
    told = json.dumps((await world.audit())[-1])
    assert "Binary/b1/_history/1" in told and "Patient/p1" in told
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    await indistinguishable(world, rx2, "b1")


async def test_bytes_are_withheld_with_the_document_alone(world: World, rx1: Who, rx2: Who) -> None:
    """The consent is about one document: the rest of the record stays open, the attachment does not."""
    await world.patient(rx1, "p1")
    for name in ("1", "2"):
        await world.put(f"DocumentReference/d{name}", a_document(f"d{name}", url=f"Binary/b{name}"), rx1)
        await kept(world, rx1, f"b{name}", f"{world.base}/DocumentReference/d{name}")
    denied = denied_to("RX2") | {
        "data": [{"meaning": "instance", "reference": {"reference": "DocumentReference/d1"}}]
    }
    made = await world.post("Consent", a_consent("p1", type="permit", provision=[denied]), rx1)
    assert made.status_code == 201, made.text
    assert (await world.get("DocumentReference/d1", rx2)).status_code == 404
    await indistinguishable(world, rx2, "b1")
    assert (await world.get("Binary/b2", rx2)).content == PDF
    assert (await world.get("Binary/b1", rx1)).content == PDF


async def test_a_document_that_becomes_sensitive_takes_its_bytes_with_it(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.put("DocumentReference/d1", a_document("d1"), rx1)
    await kept(world, rx1, "b1", "DocumentReference/d1")
    restricted = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}
    denied = denied_to("RX2") | {"securityLabel": [restricted]}
    await world.post("Consent", a_consent("p1", type="permit", provision=[denied]), rx1)
    assert (await world.get("Binary/b1", rx2)).status_code == 200
    await world.put("DocumentReference/d1", a_document("d1", meta={"security": [restricted]}), rx1)
    assert (await world.get("DocumentReference/d1", rx2)).status_code == 404
    await indistinguishable(world, rx2, "b1")


async def test_no_include_and_no_chain_leads_around_the_document(world: World, rx1: Who, rx2: Who) -> None:
    """Answered as if the List referred to something that is not there."""
    await world.patient(rx1, "p1")
    await world.put("DocumentReference/d1", a_document("d1"), rx1)
    await kept(world, rx1, "b1", "DocumentReference/d1")
    for id, item in (("l1", "Binary/b1"), ("l2", "Binary/none")):
        body = {
            "resourceType": "List",
            "id": id,
            "status": "current",
            "mode": "working",
            "subject": {"reference": "Patient/p1"},
            "entry": [{"item": {"reference": item}}],
        }
        assert (await world.put(f"List/{id}", body, rx1)).status_code == 201
    queries = ("List?_id={}&_include=List:item", "List?_id={}&item:Binary._security=N&_total=accurate")
    open_to_all = [await world.get(query.format("l1"), rx2) for query in queries]
    assert '"Binary"' in open_to_all[0].text and open_to_all[1].json()["total"] == 1
    denied = denied_to("RX2") | {
        "data": [{"meaning": "instance", "reference": {"reference": "DocumentReference/d1"}}]
    }
    await world.post("Consent", a_consent("p1", type="permit", provision=[denied]), rx1)
    assert len((await world.get(queries[0].format("l1"), rx2)).json()["entry"]) == 1
    there, none = [(await world.get(queries[1].format(id), rx2)).text for id in ("l1", "l2")]
    assert there.replace("l1", "l2") == none and '"total":0' in none


async def test_bytes_go_with_their_document_and_come_back_with_it(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("DocumentReference/d1", a_document("d1"), rx1)
    await kept(world, rx1, "b1", "DocumentReference/d1")
    await world.delete("DocumentReference/d1", rx1)
    for who in (rx1, rx2):
        assert (await world.get("Binary/b1", who)).status_code == 404
    await world.put("DocumentReference/d1", a_document("d1"), rx1)
    assert (await world.get("Binary/b1", rx2)).content == PDF


async def test_bytes_of_nobody_known_stay_with_their_custodian(world: World, rx1: Who, rx2: Who) -> None:
    await kept(world, rx1, "b1", None)
    assert (await world.get("Binary/b1", rx1)).content == PDF
    await indistinguishable(world, rx2, "b1")
    await world.delete("Binary/b1", rx1)
    assert (await world.get("Binary/b1", rx1)).status_code == 410
    assert (await world.get("Binary/b1", rx2)).status_code == 404


async def test_a_deleted_binary_is_gone_only_for_who_might_have_read_it(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.put("DocumentReference/d1", a_document("d1"), rx1)
    await kept(world, rx1, "b1", "DocumentReference/d1")
    await kept(world, rx1, "b2", "DocumentReference/d1")
    await world.delete("Binary/b2", rx1)
    assert (await world.get("Binary/b2", rx2)).status_code == 410
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    await indistinguishable(world, rx2, "b2")
    await world.delete("Binary/b1", rx1)
    assert (await world.get("Binary/b1", rx1)).status_code == 410
    await indistinguishable(world, rx2, "b1")


async def test_bytes_of_an_organisation_are_as_open_as_it_is(world: World, rx1: Who, rx2: Who) -> None:
    await world.put("Organization/o1", {"resourceType": "Organization", "id": "o1", "name": "RX1"}, rx1)
    await kept(world, rx1, "b1", "Organization/o1")
    assert (await world.get("Binary/b1", rx2)).content == PDF


async def test_an_earlier_version_is_decided_by_what_it_stood_under(world: World, rx1: Who, rx2: Who) -> None:
    await world.put("Organization/o1", {"resourceType": "Organization", "id": "o1", "name": "RX1"}, rx1)
    await kept(world, rx1, "b1", None)
    await kept(world, rx1, "b1", "Organization/o1")
    assert (await world.get("Binary/b1/_history/2", rx2)).content == PDF
    assert (await world.get("Binary/b1/_history/1", rx2)).status_code == 404
    assert (await world.get("Binary/b1/_history", rx2)).json()["total"] == 1
    assert (await world.get("Binary/b1/_history", rx1)).json()["total"] == 2


async def test_nobody_learns_by_writing_what_another_custodian_keeps(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.put("DocumentReference/d1", a_document("d1"), rx1)
    there = await world.put("Binary/b9", a_binary("b9", "DocumentReference/d1"), rx2)
    nowhere = await world.put("Binary/b9", a_binary("b9", "DocumentReference/d9"), rx2)
    assert (there.status_code, there.content) == (422, nowhere.content)
    not_ours = await world.put("Binary/b9", a_binary("b9", "Patient/p1"), rx2)
    assert not_ours.status_code == 403


async def test_bytes_do_not_move_into_another_patients_record(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", nhs_number="9990000026")
    await kept(world, rx1, "b1", "Patient/p1")
    for context in ("Patient/p2", None):
        moved = await world.put("Binary/b1", a_binary("b1", context), rx1)
        assert moved.status_code == 422


# Attachments by URL, written together.


@pytest.mark.parametrize("methods", [("POST", "POST"), ("PUT", "PUT"), ("POST", "PUT"), ("PUT", "POST")])
async def test_a_document_and_its_bytes_are_written_in_one_transaction(
    methods: tuple[str, str], world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    document, binary = (
        "urn:uuid:6a9bd1f6-7e2c-4a55-9d3e-0d2cb4f6b001",
        "urn:uuid:6a9bd1f6-7e2c-4a55-9d3e-0d2cb4f6b002",
    )
    entries = [
        {
            "fullUrl": binary,
            "resource": a_binary("b1", document),
            "request": {"method": methods[0], "url": "Binary" if methods[0] == "POST" else "Binary/b1"},
        },
        {
            "fullUrl": document,
            "resource": a_document("d1", url=binary),
            "request": {
                "method": methods[1],
                "url": "DocumentReference" if methods[1] == "POST" else "DocumentReference/d1",
            },
        },
    ]
    done = await world.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, rx1)
    assert done.status_code == 200, done.text
    url = done.json()["entry"][1]["resource"]["content"][0]["attachment"]["url"]
    assert url.startswith("Binary/")
    assert (await world.get(url, rx2)).content == PDF
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    await indistinguishable(world, rx2, url.removeprefix("Binary/"))


async def test_bytes_wait_for_a_document_that_waits_for_a_search(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("DocumentReference/d1", a_document("d1"), rx1)
    await world.delete("DocumentReference/d1", rx1)
    custodian = {"reference": "Organization?name=North"}
    entries: list[dict[str, Any]] = [
        {
            "resource": a_binary("b1", "DocumentReference/d1"),
            "request": {"method": "PUT", "url": "Binary/b1"},
        },
        {
            "resource": a_document("d1", url="Binary/b1", custodian=custodian),
            "request": {"method": "PUT", "url": "DocumentReference/d1"},
        },
        {
            "resource": {"resourceType": "Organization", "id": "o1", "name": "North"},
            "request": {"method": "PUT", "url": "Organization/o1"},
        },
        {"request": {"method": "GET", "url": "Binary/b1"}},
    ]
    done = await world.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, rx1)
    assert done.status_code == 200, done.text
    assert done.json()["entry"][3]["resource"]["resourceType"] == "Binary", "in a Bundle always the resource"
    assert (await world.get("Binary/b1", rx2)).content == PDF
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    await indistinguishable(world, rx2, "b1")


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize("request_", [("POST", "Binary"), ("PUT", "Binary/x1")])
async def test_what_is_no_binary_is_not_made_one_by_a_bundle(
    kind: str, request_: tuple[str, str], world: World, rx1: Who
) -> None:
    entry = {
        "resource": {"resourceType": "Patient", "id": "x1"},
        "request": {"method": request_[0], "url": request_[1]},
    }
    done = await world.post("", {"resourceType": "Bundle", "type": kind, "entry": [entry]}, rx1)
    status = done.json()["entry"][0]["response"]["status"][:3] if kind == "batch" else str(done.status_code)
    assert status in ("400", "422")


async def test_a_transaction_names_the_binary_that_belongs_to_nothing(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("DocumentReference/d1", a_document("d1"), rx1)
    entries: list[dict[str, Any]] = [
        {"request": {"method": "DELETE", "url": "DocumentReference/d1"}},
        {
            "resource": a_binary("b1", "DocumentReference/d1"),
            "request": {"method": "PUT", "url": "Binary/b1"},
        },
    ]
    done = await world.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, rx1)
    assert done.status_code == 422
    assert done.json()["issue"][0]["expression"] == ["Bundle.entry[1].resource.securityContext"]
    assert (await world.get("DocumentReference/d1", rx1)).status_code == 200


async def test_an_attachments_absolute_url_is_the_gated_read(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("DocumentReference/d1", a_document("d1", url=f"{world.base}/Binary/b1"), rx1)
    await kept(world, rx1, "b1", "DocumentReference/d1")
    read = await world.get("DocumentReference/d1", rx2)
    url = read.json()["content"][0]["attachment"]["url"]
    path = url.removeprefix(world.base)
    assert (await world.http.get(f"/fhir{path}", headers=rx2)).content == PDF
    assert (await world.http.get(f"/fhir{path}")).status_code == 401


async def test_everything_does_not_hand_out_what_is_no_part_of_a_compartment(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await kept(world, rx1, "b1", "Patient/p1")
    everything = await world.get("Patient/p1/$everything", rx1)
    assert "Binary" not in everything.text
