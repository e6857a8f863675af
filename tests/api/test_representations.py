"""The same record as JSON and as XML, both ways, with every digit (R4 xml, json)."""

import re
from xml.etree import ElementTree

import pytest

from tests.world import World, an_observation

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
