"""What a decision can know of a resource."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.consent.labels import label
from app.fhir.authors import UNKNOWN_AUTHOR, lacking
from app.fhir.facets import Facets, bare_code_key, code_keys, facets_of, inner_kind_key, kind_key
from app.fhir.names import identifier_key, reference_key
from app.fhir.sensitivity import LEVELS
from app.fhir.systems import CONFIDENTIALITY, MIME_TYPES, RESOURCE_TYPES
from app.vocabulary import OdsCode

BASE = "https://node.example/fhir"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
GMC = "https://fhir.hl7.org.uk/Id/gmc-number"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"


def facets(**resource: Any) -> Facets:
    return facets_of(
        {"resourceType": "Observation", "id": "1", **resource}, custodian=OdsCode("RX1"), base_url=BASE
    )


def labelled(*labels: tuple[str, str]) -> Facets:
    return facets(meta={"security": [{"system": system, "code": code} for system, code in labels]})


def test_a_code_counts_wherever_it_stands() -> None:
    coding = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}
    deep = facets(component=[{"code": coding}], contained=[{"resourceType": "Specimen", "type": coding}])
    assert set(code_keys("http://loinc.org", "8480-6")) <= set(deep.codes)


def test_the_code_of_a_unit_is_no_code_of_the_instance() -> None:
    unit = {"value": 5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}
    assert not facets(valueQuantity=unit).codes


def test_a_code_without_a_system_says_so() -> None:
    assert set(facets(code={"coding": [{"code": "x"}]}).codes) == {*code_keys("", "x"), bare_code_key("x")}


def test_labels_are_no_codes_of_the_instance() -> None:
    assert not labelled((CONFIDENTIALITY, "R")).codes


@pytest.mark.parametrize("code", LEVELS)
def test_confidentiality_is_kept_in_order(code: str) -> None:
    assert labelled((CONFIDENTIALITY, code)).confidentiality == LEVELS[code]


def test_the_highest_label_anywhere_counts() -> None:
    inner = {"resourceType": "Specimen", "meta": {"security": [{"system": CONFIDENTIALITY, "code": "V"}]}}
    outer = facets(meta={"security": [{"system": CONFIDENTIALITY, "code": "N"}]}, contained=[inner])
    assert outer.confidentiality == LEVELS["V"]


def test_an_inline_label_counts_for_the_whole() -> None:
    url = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label"
    marked = facets(
        note=[{"extension": [{"url": url, "valueCoding": {"system": CONFIDENTIALITY, "code": "R"}}]}]
    )
    assert marked.confidentiality == LEVELS["R"]


def test_a_composition_says_its_confidentiality_itself() -> None:
    assert facets(resourceType="Composition", confidentiality="V").confidentiality == LEVELS["V"]


def test_a_sensitivity_brings_the_families_it_falls_under() -> None:
    assert labelled((ACT_CODE, "ETHUD")).sensitivity == {"ETHUD", "ETH", "SUD", "BH", "SPI"}


@pytest.mark.parametrize(
    "coding",
    [
        ("https://nobody.knows/labels", "SECRET"),
        (ACT_CODE, "REDACT"),
        (ACT_CODE, "NODSCLCD"),
        (CONFIDENTIALITY, "X"),
    ],
)
def test_a_label_that_is_not_understood_may_mean_anything(coding: tuple[str, str]) -> None:
    assert labelled(coding).sensitivity == {"UNKNOWN"}


@pytest.mark.parametrize(
    "coding",
    [("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST"), (ACT_CODE, "NOREUSE")],
)
def test_a_mark_for_the_recipient_is_not_sensitive(coding: tuple[str, str]) -> None:
    assert labelled(coding).sensitivity == frozenset()


def test_edges_are_stripped_of_our_base_and_of_versions() -> None:
    one = facets(
        encounter={"reference": f"{BASE}/Encounter/e/_history/3"},
        focus=[{"reference": "https://x.example/A/1"}],
    )
    assert set(one.edges) == {reference_key("Encounter/e"), reference_key("https://x.example/A/1")}


def test_a_reference_into_the_resource_is_no_edge() -> None:
    assert not facets(specimen={"reference": "#s"}).edges


def test_authors_are_named_by_reference_and_identifier() -> None:
    both = {"reference": "Practitioner/p", "identifier": {"system": GMC, "value": "7"}}
    assert set(facets(performer=[both]).authors) == {
        reference_key("Practitioner/p"),
        identifier_key(GMC, "7"),
    }


def test_an_author_named_one_way_only_says_so() -> None:
    assert lacking("person", "identifier") in facets(performer=[{"reference": "Practitioner/p"}]).authors
    assert (
        lacking("person", "reference")
        in facets(performer=[{"identifier": {"system": GMC, "value": "7"}}]).authors
    )
    by_ods = facets(performer=[{"identifier": {"system": ODS, "value": "RX1"}}])
    assert lacking("organisation", "reference") in by_ods.authors


def test_an_author_inside_the_resource_is_found_by_its_identifier() -> None:
    inside = [{"resourceType": "Practitioner", "id": "p", "identifier": [{"system": GMC, "value": "7"}]}]
    assert identifier_key(GMC, "7") in facets(contained=inside, performer=[{"reference": "#p"}]).authors


@pytest.mark.parametrize("performer", [[], [{"display": "somebody"}], [{"reference": "#gone"}]])
def test_an_author_who_cannot_be_told_is_unknown(performer: list[dict[str, str]]) -> None:
    assert UNKNOWN_AUTHOR in facets(performer=performer).authors


def test_kinds_are_types_profiles_document_types_and_mime_types() -> None:
    document = facets(
        resourceType="DocumentReference",
        meta={"profile": ["https://p.example/letter|1.0"]},
        type={"coding": [{"system": "http://loinc.org", "code": "34133-9"}]},
        content=[{"attachment": {"contentType": "Text/HTML; charset=utf-8"}}],
        contained=[{"resourceType": "Patient", "id": "x"}],
    )
    assert set(document.kinds) == {
        kind_key(RESOURCE_TYPES, "DocumentReference"),
        kind_key("urn:ietf:rfc:3986", "https://p.example/letter"),
        kind_key("http://loinc.org", "34133-9"),
        kind_key(MIME_TYPES, "text/html"),
        inner_kind_key(RESOURCE_TYPES, "Patient"),
    }


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("resource", "start", "end"),
    [
        ({"effectiveDateTime": "2026-01-01"}, day("2026-01-01"), day("2026-01-02")),
        ({"effectivePeriod": {"start": "2026-01-01"}}, day("2026-01-01"), None),
        ({"effectivePeriod": {"end": "2026-01-01"}}, None, day("2026-01-02")),
        ({"effectiveTiming": {"event": ["2026-01-01", "2026-01-05"]}}, day("2026-01-01"), day("2026-01-06")),
        ({"issued": "2026-01-01T10:00:00Z"}, day("2026-01-01T10:00:00"), day("2026-01-01T10:00:01")),
        ({}, None, None),
        ({"effectiveDateTime": "soon"}, None, None),
        (
            {
                "resourceType": "Condition",
                "onsetDateTime": "2015",
                "abatementDateTime": "2016",
                "recordedDate": "2018",
            },
            day("2015-01-01"),
            day("2017-01-01"),
        ),
        ({"resourceType": "Condition", "onsetDateTime": "2015"}, day("2015-01-01"), None),
        (
            {"resourceType": "Condition", "recordedDate": "2018-05-01"},
            day("2018-04-30T23:00"),
            day("2018-05-01T23:00"),
        ),
        # It began when nobody knows: the date of recording would be a guess.
        ({"resourceType": "Condition", "onsetAge": {"value": 5}, "recordedDate": "2018"}, None, None),
        (
            {
                "resourceType": "DocumentReference",
                "date": "2020-01-01T00:00:00Z",
                "context": {"period": {"start": "2019"}},
            },
            day("2019-01-01"),
            None,
        ),
        (
            {"resourceType": "Specimen", "collection": {"collectedDateTime": "2026-01-01"}},
            day("2026-01-01"),
            day("2026-01-02"),
        ),
        ({"resourceType": "Patient", "birthDate": "1980-01-01"}, None, None),
    ],
)
def test_the_relevant_interval_follows_the_rule_of_the_type(
    resource: dict[str, Any], start: datetime | None, end: datetime | None
) -> None:
    found = facets(**resource)
    assert (found.relevant_from, found.relevant_until) == (start, end)


def test_what_is_not_labelled_becomes_normal_at_its_write() -> None:
    given, added = label({}, facets())
    assert given.confidentiality == LEVELS["N"]
    assert [one["code"] for one in added] == ["N"]


def test_what_is_called_sensitive_without_a_level_becomes_restricted() -> None:
    given, added = label({}, labelled((ACT_CODE, "HIV")))
    assert given.confidentiality == LEVELS["R"]
    assert [one["code"] for one in added] == ["R"]


def test_a_custodians_own_label_is_kept() -> None:
    own = labelled((CONFIDENTIALITY, "U"))
    assert label({}, own) == (own, ())
