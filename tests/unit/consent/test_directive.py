"""Consent to directive: understood completely or refused; and the form it is kept in."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from app.consent.directive import Directive, from_json, normalise, references_in, to_json
from app.consent.provision import Provision
from app.errors import InvalidResource
from tests.properties.consents import deep_registers
from tests.unit.consent.vectors import VECTORS

GOLDEN = Path(__file__).parents[2] / "golden" / "directive-1.json"
KEPT = datetime(2026, 11, 1, tzinfo=UTC)
SCOPE = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
}
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"


def consent(**more: Any) -> dict[str, Any]:
    fixed = {
        "resourceType": "Consent",
        "id": "c",
        "status": "active",
        "scope": SCOPE,
        "patient": {"reference": "Patient/p"},
    }
    return {**fixed, "provision": {"type": "permit"}, **more}


def kept(given: dict[str, Any], version: int = 1) -> Directive:
    return normalise(given, version=version, server_time=KEPT, base_url="https://node.example/fhir")


def granted_to(*codes: str) -> dict[str, Any]:
    actors = [{"reference": {"identifier": {"system": ODS, "value": code}}} for code in codes]
    return {"type": "permit", "actor": actors}


def test_a_directive_is_kept_in_the_same_bytes_as_last_year() -> None:
    world = json.loads((VECTORS / "semantics.json").read_text(encoding="utf-8"))
    names = ("two-siblings", "weights", "no-letters-by-profile", "by-rx2", "until-june", "no-use", "opt-in")
    texts = [to_json(kept(world["consents"][name])) for name in names]
    assert "\n".join(texts) == GOLDEN.read_text(encoding="utf-8").rstrip("\n")


@settings(max_examples=60, deadline=None)
@given(deep_registers)
def test_what_is_kept_is_read_back_the_same(register: list[Directive]) -> None:
    assert [from_json(to_json(one)) for one in register] == register


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format":"directive-2"}', '{"format":"directive-1"}'])
def test_what_was_not_written_here_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"directive|Expecting"):
        from_json(text)


def nested(depth: int) -> dict[str, Any]:
    rule: dict[str, Any] = {"type": "permit"}
    for _ in range(depth - 1):
        rule = {"type": "permit", "provision": [rule]}
    return rule


@pytest.mark.parametrize(
    "provision",
    [
        nested(9),
        nested(500),
        {"type": "permit", "provision": [{"type": "deny"}] * 10_000},
        {"type": "permit", "code": [{"coding": [{"code": "x"}]}] * 5_000},
    ],
    ids=["nine deep", "five hundred deep", "ten thousand provisions", "five thousand codes"],
)
def test_a_consent_that_is_too_large_is_refused_at_once(provision: dict[str, Any]) -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidResource) as refusal:
        kept(consent(provision=provision))
    assert refusal.value.issues[0].code == "too-costly"
    assert time.perf_counter() - began < 1


def test_eight_deep_is_understood() -> None:
    assert len(list(kept(consent(provision=nested(8))).rule.walk())) == 8


def test_every_element_that_is_not_understood_is_named() -> None:
    rule = {
        "type": "permit",
        "class": [{"code": "Nothing"}],
        "provision": [{"type": "maybe"}],
        "period": {"start": "x"},
    }
    with pytest.raises(InvalidResource) as refusal:
        kept(consent(provision=rule))
    assert {issue.expression for issue in refusal.value.issues} == {
        "Consent.provision.class[0]",
        "Consent.provision.provision[0].type",
        "Consent.provision.period.start",
    }


def test_a_denial_of_what_is_not_understood_is_accepted_and_covers_all_it_could() -> None:
    rule = kept(consent(provision={"type": "deny", "class": [{"code": "Nothing"}]})).rule
    assert rule.classes is not None
    assert rule.classes.unknown


def understood_or_refused(given: dict[str, Any]) -> bool:
    try:
        return isinstance(kept(given).rule, Provision)
    except InvalidResource as refusal:
        return bool(refusal.issues)


@pytest.mark.parametrize("junk", [None, 1, "x", [], [1], {"a": {}}])
@pytest.mark.parametrize(
    "name", ["provision", "scope", "patient", "organization", "policy", "dateTime", "contained", "meta"]
)
def test_junk_is_refused_or_ignored_but_never_crashed_on(name: str, junk: Any) -> None:
    assert understood_or_refused(consent(**{name: junk}))


@pytest.mark.parametrize("junk", [None, 1, "x", [None], [1], [[]], {"a": {}}])
@pytest.mark.parametrize(
    "name",
    [
        "actor",
        "action",
        "securityLabel",
        "purpose",
        "class",
        "code",
        "data",
        "period",
        "dataPeriod",
        "provision",
    ],
)
def test_junk_in_a_provision_is_refused_but_never_crashed_on(name: str, junk: Any) -> None:
    assert understood_or_refused(consent(provision={"type": "permit", name: junk}))


def test_a_later_choice_for_the_same_grantees_takes_the_slot() -> None:
    first, later = (
        consent(provision=granted_to("RX1", "RX2")),
        consent(provision=granted_to("RX2", "RX1"), id="d"),
    )
    assert kept(first).slot == kept(later).slot


@pytest.mark.parametrize(
    "other",
    [
        consent(provision=granted_to("RX2")),
        consent(provision=granted_to("RX1"), patient={"reference": "Patient/q"}),
        consent(provision=granted_to("RX1"), organization=[{"reference": "Organization/o"}]),
        consent(provision=granted_to("RX1"), policy=[{"uri": "https://p.example"}]),
    ],
    ids=["grantees", "patient", "organisation", "policy"],
)
def test_another_slot_is_another_choice(other: dict[str, Any]) -> None:
    assert kept(consent(provision=granted_to("RX1"))).slot != kept(other).slot


def test_opting_out_takes_the_slot_of_opting_in() -> None:
    system = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    opted = [
        consent(policyRule={"coding": [{"system": system, "code": code}]}) for code in ("OPTIN", "OPTOUT")
    ]
    assert len({kept(one).slot for one in opted}) == 1


def test_without_a_date_a_choice_was_made_when_it_was_kept() -> None:
    assert kept(consent()).recorded_at == KEPT


def test_the_references_to_be_resolved_are_told() -> None:
    actor = {"reference": {"reference": "Group/g"}}
    rule = {"type": "permit", "data": [{"meaning": "instance", "reference": {"reference": "Observation/1"}}]}
    both = consent(provision={**rule, "provision": [{"type": "deny", "actor": [actor]}]})
    assert references_in(both) == ("Group/g", "Observation/1")


def test_an_actor_inside_the_consent_is_known_by_its_identifier() -> None:
    inside = [{"resourceType": "Organization", "id": "o", "identifier": [{"system": ODS, "value": "RX1"}]}]
    direct = kept(consent(provision=granted_to("RX1"))).rule.actors
    rule = {"type": "permit", "actor": [{"reference": {"reference": "#o"}}]}
    assert kept(consent(contained=inside, provision=rule)).rule.actors == direct
