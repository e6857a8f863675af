"""R4's invariants, each kept by one resource and broken by its neighbour; and nothing sent crashes the checks."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidResource, Issue
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.invariants import INVARIANTS
from app.fhir.validation import validate

Json = dict[str, Any]


def issues(resource: Any) -> list[Issue]:
    try:
        validate(resource)
    except InvalidResource as error:
        return list(error.issues)
    return []


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{system}", "code": code}]}


def patient(**change: Any) -> Json:
    return {"resourceType": "Patient"} | change


def observation(**change: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": concept("a", "b")} | change


def lasting(start: str, end: str) -> Json:
    return observation(effectivePeriod={"start": start, "end": end})


def condition(**change: Any) -> Json:
    return {"resourceType": "Condition", "subject": {"reference": "Patient/1"}} | change


def allergy(**change: Any) -> Json:
    return {"resourceType": "AllergyIntolerance", "patient": {"reference": "Patient/1"}} | change


def organization(**change: Any) -> Json:
    return {"resourceType": "Organization", "active": True} | change


def bundle(*entries: Json, **change: Any) -> Json:
    return (
        {"resourceType": "Bundle", "type": "collection"}
        | ({"entry": list(entries)} if entries else {})
        | change
    )


def document(*entries: Json, **change: Any) -> Json:
    said = {"identifier": {"system": "urn:s", "value": "v"}, "timestamp": "2020-01-01T00:00:00Z"} | change
    return bundle(*entries, type="document", **{name: value for name, value in said.items() if value})


ACTIVE, RESOLVED = concept("condition-clinical", "active"), concept("condition-clinical", "resolved")
ACTIVE_ALLERGY = concept("allergyintolerance-clinical", "active")
WRONG = concept("condition-ver-status", "entered-in-error")
WRONG_ALLERGY = concept("allergyintolerance-verification", "entered-in-error")
A = {"fullUrl": "urn:a", "resource": patient(active=True)}
B = {"fullUrl": "urn:b", "resource": observation()}
REQUEST = {"request": {"method": "GET", "url": "x"}}
RESPONSE = {"response": {"status": "200"}}
MATCH = {"search": {"mode": "match"}}
HEADER = {"resourceType": "MessageHeader", "eventCoding": {"code": "a"}, "source": {"endpoint": "urn:x"}}
COMPOSITION: Json = {
    "resourceType": "Composition",
    "status": "final",
    "type": {"text": "t"},
    "date": "2020",
    "title": "t",
    "author": [{"display": "a"}],
}
TITLED = {"resource": COMPOSITION}
LABELLED = {"code": concept("a", "b")}
OLD_VERSION = {"fullUrl": "http://x/Patient/1/_history/1"}

CASES: list[tuple[str, Json, Json]] = [
    ("ext-1", patient(extension=[{"url": "u", "valueCode": "x"}]), patient(extension=[{"url": "u"}])),
    (
        "qty-3",
        observation(valueQuantity={"code": "g", "system": "urn:u"}),
        observation(valueQuantity={"code": "g"}),
    ),
    ("per-1", lasting("2020", "2020-01"), lasting("2020-02", "2020-01-31")),
    (
        "per-1",
        lasting("2020-01-02T00:30:00+01:00", "2020-01-01T23:30:00.0Z"),
        lasting("2020-01-02T00:30:00.001+01:00", "2020-01-01T23:30:00Z"),
    ),
    (
        "per-1",
        lasting("2020-01-02T00:30:00+01:00", "2020-01-01"),
        lasting("2020-01-03T00:30:00+01:00", "2020-01-01"),
    ),
    ("per-1", lasting("2020-01-02T00:30:00+01:00", "2020"), lasting("2020-01-02T00:30:00+01:00", "2019")),
    (
        "per-1",
        lasting("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:60-14:00"),
        lasting("9999-12-31T23:59:60-14:00", "0001-01-01T00:00:00+14:00"),
    ),
    (
        "rng-2",
        observation(valueRange={"low": {"value": Decimal("1.5")}, "high": {"value": 2}}),
        observation(valueRange={"low": {"value": Decimal("2.5")}, "high": {"value": 2}}),
    ),
    ("cpt-2", patient(telecom=[{"system": "phone", "value": "1"}]), patient(telecom=[{"value": "1"}])),
    (
        "att-1",
        patient(photo=[{"data": "AAAA", "contentType": "image/png"}]),
        patient(photo=[{"data": "AAAA"}]),
    ),
    (
        "obs-6",
        observation(dataAbsentReason={"text": "x"}),
        observation(dataAbsentReason={"text": "x"}, valueInteger=1),
    ),
    ("obs-7", observation(component=[LABELLED]), observation(component=[LABELLED], valueString="x")),
    ("ait-1", allergy(verificationStatus=WRONG_ALLERGY), allergy()),
    (
        "ait-2",
        allergy(clinicalStatus=ACTIVE_ALLERGY),
        allergy(clinicalStatus=ACTIVE_ALLERGY, verificationStatus=WRONG_ALLERGY),
    ),
    (
        "con-4",
        condition(clinicalStatus=RESOLVED, abatementString="x"),
        condition(clinicalStatus=ACTIVE, abatementString="x"),
    ),
    (
        "con-5",
        condition(verificationStatus=WRONG),
        condition(clinicalStatus=ACTIVE, verificationStatus=WRONG),
    ),
    ("pat-1", patient(contact=[{"name": {"text": "x"}}]), patient(contact=[{"gender": "male"}])),
    ("org-1", organization(name="x"), organization()),
    ("bdl-1", bundle(type="searchset", total=0), bundle(total=0)),
    ("bdl-2", bundle(A | MATCH, type="searchset"), bundle(A | MATCH)),
    ("bdl-3", bundle(REQUEST, type="batch"), bundle(A, type="transaction")),
    ("bdl-3", bundle(A), bundle(A | REQUEST)),
    ("bdl-4", bundle(RESPONSE, type="batch-response"), bundle(A, type="transaction-response")),
    ("bdl-5", bundle(A), bundle({"fullUrl": "urn:x"})),
    ("bdl-7", bundle(A, B), bundle(A, A)),
    ("bdl-7", bundle(*[A | REQUEST | RESPONSE] * 2, type="history"), bundle(A, B, A)),
    ("bdl-8", bundle(A), bundle(A | OLD_VERSION)),
    ("bdl-9", document(TITLED), document(TITLED, identifier={"value": "v"})),
    ("bdl-10", document(TITLED), document(TITLED, timestamp=None)),
    ("bdl-11", document(TITLED), document(A)),
    ("bdl-12", bundle({"resource": HEADER}, type="message"), bundle(A, type="message")),
]


@pytest.mark.parametrize(("key", "kept", "broken"), CASES)
def test_an_invariant_is_kept_or_named(key: str, kept: Json, broken: Json) -> None:
    assert issues(kept) == []
    (issue,) = issues(broken)
    assert issue.code == "invariant"
    assert f"({key})" in issue.text


def test_every_invariant_in_the_table_is_tested() -> None:
    known = {invariant.key for invariants in INVARIANTS.values() for invariant in invariants}
    assert known == {key for key, _, _ in CASES}


ABSENT: Json = {"extension": [{"url": "u", "valueCode": "unknown"}]}
CONTAINED: Json = {"resourceType": "Organization", "id": "o", "name": "n"}
RICH: list[Json] = [
    document(TITLED, {"resource": patient(contained=[CONTAINED], managingOrganization={"reference": "#o"})}),
    condition(clinicalStatus=RESOLVED, abatementPeriod={"start": "2020", "end": "2020-01-01T00:00:00Z"}),
    observation(
        component=[LABELLED | {"valueRange": {"low": {"value": 1}, "high": {"value": 2}}}],
        text={"status": "generated", "div": "<div>x</div>"},
        _effectiveDateTime=ABSENT,
    ),
    patient(
        name=[
            {
                "given": ["a", None],
                "_given": [{"id": "x"}, ABSENT],
                "period": {"start": "2020", "end": "2021"},
            }
        ],
        contact=[{"telecom": [{"system": "phone", "value": "1"}]}],
        photo=[{"data": "AAAA", "contentType": "image/png"}],
    ),
]
ODD = st.sampled_from(
    [{}, [], [None], "#", "Patient/1", {"resourceType": []}, {"id": []}, {"reference": {}}, {"system": []}]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def slots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside ``value``."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from slots(value[key])


@st.composite
def damaged(draw: st.DrawFn) -> Json:
    """A rich resource in which one value, anywhere, is replaced by arbitrary JSON."""
    resource: Json = json.loads(json.dumps(draw(st.sampled_from(RICH))))
    container, key = draw(st.sampled_from(list(slots(resource))))
    container[key] = draw(json_values | ODD)
    return resource


@pytest.mark.parametrize("resource", RICH)
def test_what_is_damaged_below_was_whole(resource: Json) -> None:
    assert issues(resource) == []


@given(damaged())
@settings(max_examples=300)
def test_whatever_is_sent_is_either_accepted_or_refused_with_issues(resource: Json) -> None:
    for issue in issues(resource):
        assert issue.severity == "error"
        assert issue.expression
        assert issue.text


@given(json_values, st.sampled_from(sorted(RESOURCE_TYPES)))
def test_no_member_of_any_type_can_crash_the_check(value: Any, resource_type: str) -> None:
    resource = {"resourceType": resource_type, "id": value, "text": value, "contained": value, "meta": value}
    assert all(issue.text for issue in issues(resource))
