"""The same record as JSON and as XML, both ways, with every digit (R4 xml, json)."""

import re
from xml.etree import ElementTree

import pytest

from tests.world import World, a_patient, an_observation

Who = dict[str, str]
NAMESPACE = "{http://hl7.org/fhir}"
XML = "application/fhir+xml"


async def test_a_record_comes_as_xml_with_its_digits(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    made = await world.post("Observation", an_observation("p1", value="1.50"), rx1)
    for path, headers in (
        (f"Observation/{made.json()['id']}?_format=xml", {}),
        (f"Observation/{made.json()['id']}", {"Accept": XML}),
    ):
        answer = await world.get(path, rx1, **headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(XML)
        root = ElementTree.fromstring(answer.text)
        assert root.tag == NAMESPACE + "Observation"
        assert root.find(f"{NAMESPACE}valueQuantity/{NAMESPACE}value").get("value") == "1.50"  # type: ignore[union-attr]


async def test_a_search_and_an_error_come_as_xml_too(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    bundle = await world.get("Patient?_id=p1&_format=xml", rx1)
    assert ElementTree.fromstring(bundle.text).tag == NAMESPACE + "Bundle"
    missing = await world.get("Patient/nobody", rx1, Accept=XML)
    assert missing.status_code == 404
    assert ElementTree.fromstring(missing.text).tag == NAMESPACE + "OperationOutcome"
    unrouted = await world.get("patient/nobody", rx1, Accept=XML)
    assert ElementTree.fromstring(unrouted.text).tag == NAMESPACE + "OperationOutcome"
    statement = await world.http.get("/fhir/metadata?_format=xml")
    assert ElementTree.fromstring(statement.text).tag == NAMESPACE + "CapabilityStatement"


async def test_what_is_sent_as_xml_is_kept_and_comes_back_as_json(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    sent = (
        '<?xml version="1.0"?><!-- a comment is dropped --><Observation xmlns="http://hl7.org/fhir">'
        '<status value="final"/><code><text value="weight"/></code><subject><reference value="Patient/p1"/></subject>'
        '<valueQuantity><value value="70.250"/></valueQuantity></Observation>'
    )
    made = await world.http.post("/fhir/Observation", content=sent, headers={**rx1, "Content-Type": XML})
    assert made.status_code == 201, made.text
    read = await world.get(
        f"Observation/{made.headers['location'].split('/Observation/')[1].split('/')[0]}", rx1
    )
    assert re.search(r'"value":\s*70\.250\b', read.text)


@pytest.mark.parametrize(
    "body",
    [
        "<Observation/>",
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Observation xmlns="http://hl7.org/fhir"/>',
        '<Observation xmlns="http://hl7.org/fhir"><status value="final"',
        '<Observation xmlns="http://hl7.org/fhir"><nonsense value="1"/></Observation>',
        "",
    ],
)
async def test_xml_that_is_not_fhir_is_refused_in_a_sentence(body: str, world: World, rx1: Who) -> None:
    answer = await world.http.post("/fhir/Observation", content=body, headers={**rx1, "Content-Type": XML})
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["diagnostics"]
    assert "passwd" not in answer.text


async def test_pretty_changes_only_white_space(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    made = await world.post("Observation", an_observation("p1", value="1.0E2"), rx1)
    path = f"Observation/{made.json()['id']}"
    plain, formatted = await world.get(path, rx1), await world.get(f"{path}?_pretty=true", rx1)
    assert "\n" in formatted.text and "1.0E2" in formatted.text
    assert formatted.json() == plain.json()
    assert re.sub(r"\s", "", formatted.text) == re.sub(r"\s", "", plain.text)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Patient/nobody", 404),
        ("Patient?birthdate=nonsense", 400),
        ("nonsense/x", 404),
        ("Patient/p1/_history/7", 404),
    ],
)
async def test_a_refusal_is_pretty_and_in_the_form_asked_for(
    path: str, status: int, world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    with_more = path + ("&" if "?" in path else "?")
    formatted = await world.get(f"{with_more}_pretty=true", rx1, Prefer="handling=strict")
    assert formatted.status_code == status and "\n  " in formatted.text
    as_xml = await world.get(f"{with_more}_format=xml&_pretty=true", rx1, Prefer="handling=strict")
    assert ElementTree.fromstring(as_xml.text).tag == NAMESPACE + "OperationOutcome"
    assert as_xml.text.count("\n") > 3


async def test_who_shows_no_token_and_who_errs_in_the_method_are_answered_in_the_form_asked_for(
    world: World, rx1: Who
) -> None:
    for answer, status in (
        (await world.http.get("/fhir/Patient/p1?_format=xml"), 401),
        (await world.http.delete("/fhir/metadata?_format=xml"), 405),
        (await world.http.post("/fhir/Patient/p1?_format=xml", headers=rx1), 405),
    ):
        assert answer.status_code == status
        assert ElementTree.fromstring(answer.text).tag == NAMESPACE + "OperationOutcome"
    neither = await world.http.get("/fhir/Patient/p1", headers={"Accept": "image/png"})
    assert (neither.status_code, neither.json()["resourceType"]) == (401, "OperationOutcome")


async def test_pretty_is_understood_wherever_there_is_a_bundle(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for path in (
        "Patient?_id=p1&_pretty=true",
        "Patient/p1/_history?_pretty=true",
        "Patient/p1/$everything?_pretty=true",
        "AuditEvent?patient=p1&_pretty=true",
    ):
        answer = await world.get(path, rx1, Prefer="handling=strict")
        assert answer.status_code == 200 and "\n  " in answer.text, path


async def test_head_is_get_without_the_body_everywhere(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    made = await world.post("Observation", an_observation("p1"), rx1)
    id = made.json()["id"]
    for path in (
        f"/fhir/Observation/{id}",
        f"/fhir/Observation/{id}/_history",
        f"/fhir/Observation/{id}/_history/1",
        "/fhir/Observation/none",
        "/fhir/Observation?patient=p1",
        "/fhir/Patient/p1/$everything",
        "/fhir/ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender",
        "/fhir/metadata",
        "/fhir/.well-known/smart-configuration",
        "/.well-known/jwks.json",
        "/livez",
        "/readyz",
        "/metrics",
    ):
        head, get = await world.http.head(path, headers=rx1), await world.http.get(path, headers=rx1)
        assert head.status_code == get.status_code, path
        same = {"etag", "last-modified", "content-type", "vary", "cache-control"}
        assert {k: v for k, v in head.headers.items() if k in same} == {
            k: v for k, v in get.headers.items() if k in same
        }


async def test_every_single_record_has_a_weak_tag_and_its_time(world: World, rx1: Who) -> None:
    made = await world.put("Patient/p1", a_patient("p1"), rx1)
    read = await world.get("Patient/p1", rx1)
    version = await world.get("Patient/p1/_history/1", rx1)
    for answer in (made, read, version):
        assert answer.headers["etag"] == 'W/"1"'
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["last-modified"])
    unchanged = await world.get("Patient/p1", rx1, If_None_Match='W/"1"')
    assert unchanged.status_code == 304
    assert {"etag", "last-modified", "vary"} <= set(unchanged.headers)


WISHES = [
    (None, "Patient"),
    ("return=representation", "Patient"),
    ("return=minimal", None),
    ("handling=strict, return=minimal", None),
    ("return=OperationOutcome", "OperationOutcome"),
    ("return=nonsense", "Patient"),
]


def _kind(text: str, content_type: str) -> str | None:
    if not text:
        return None
    found = re.search(r'"resourceType": ?"(\w+)"', text)
    assert found and content_type.startswith("application/fhir+json")
    return found[1]


@pytest.mark.parametrize(("prefer", "kind"), WISHES)
async def test_a_write_returns_what_is_preferred(
    prefer: str | None, kind: str | None, world: World, rx1: Who
) -> None:
    wish = {"Prefer": prefer} if prefer else {}
    created = await world.post("Patient", a_patient("x"), rx1, **wish)
    put = await world.put("Patient/p1", a_patient("p1"), rx1, **wish)
    updated = await world.put("Patient/p1", a_patient("p1", gender="male"), rx1, **wish)
    same = await world.put("Patient/p1", a_patient("p1", gender="male"), rx1, **wish)
    patched = await world.http.patch(
        "/fhir/Patient/p1",
        content='[{"op":"replace","path":"/gender","value":"other"}]',
        headers={**rx1, **wish, "Content-Type": "application/json-patch+json"},
    )
    for answer, status in ((created, 201), (put, 201), (updated, 200), (same, 200), (patched, 200)):
        assert answer.status_code == status
        assert _kind(answer.text, answer.headers["content-type"]) == kind
        assert "location" in answer.headers and "etag" in answer.headers
    read = await world.get("Patient/p1", rx1, **wish)
    assert read.json()["gender"] == "other", "Prefer speaks of writes"
    assert (await world.delete("Patient/p1", rx1, **wish)).status_code == 204


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize(
    ("prefer", "resource", "said"),
    [
        (None, True, False),
        ("return=representation", True, False),
        ("return=minimal", False, False),
        ("return=OperationOutcome", False, True),
    ],
)
async def test_the_entries_of_a_bundle_return_what_is_preferred(
    kind: str, prefer: str | None, resource: bool, said: bool, world: World, rx1: Who
) -> None:
    entry = {"resource": a_patient("p1"), "request": {"method": "PUT", "url": "Patient/p1"}}
    bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
    done = await world.post("", bundle, rx1, **({"Prefer": prefer} if prefer else {}))
    [answer] = done.json()["entry"]
    assert answer["response"]["status"] == "201 Created"
    assert ("resource" in answer) is resource
    assert (answer["response"].get("outcome", {}).get("resourceType") == "OperationOutcome") is said


async def test_what_is_read_in_a_batch_comes_whatever_is_preferred_of_writes(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    entries = [{"request": {"method": "GET", "url": one}} for one in ("Patient/p1", "Patient?_id=p1")]
    batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    done = await world.post("", batch, rx1, Prefer="return=minimal")
    assert [one["resource"]["resourceType"] for one in done.json()["entry"]] == ["Patient", "Bundle"]


async def test_every_answer_says_what_its_form_depends_on(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for path in (
        "/fhir/Patient/p1",
        "/fhir/Patient?_id=p1",
        "/fhir/Patient/none",
        "/fhir/metadata",
        "/fhir/nonsense/x",
    ):
        answer = await world.http.get(path, headers=rx1)
        assert answer.headers["vary"] == "Accept, Accept-Encoding", path
