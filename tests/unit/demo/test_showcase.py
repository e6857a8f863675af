"""The showcase people have what the demonstration's commands promise."""

from base64 import b64decode
from datetime import date
from typing import Any

import pytest

from app.demo.consents import consent_id
from app.demo.organisations import MENTAL_HEALTH_TRUST, TRUSTS
from app.demo.person import ChoiceKind
from app.demo.showcase import CAST, CastMember
from app.vocabulary import ODS_SYSTEM

from .conftest import AS_OF, Population

Resource = dict[str, Any]


def _records(population: Population, name: str) -> dict[str, list[Resource]]:
    return dict(population.records[CAST[name].nhs_number])


def _consents(population: Population, name: str) -> list[Resource]:
    return [consent for kept in population.consents[CAST[name].nhs_number].values() for consent in kept]


def _kind(resources: list[Resource], type_: str) -> list[Resource]:
    return [resource for resource in resources if resource["resourceType"] == type_]


def _coded(resources: list[Resource], code: str) -> list[Resource]:
    return [each for each in resources if f"'code': '{code}'" in str(each)]


def _labels(resource: Resource) -> set[str]:
    return {label["code"] for label in resource.get("meta", {}).get("security", ())}


def _actors(provision: Resource) -> list[str]:
    for actor in provision["actor"]:
        assert actor["role"]["coding"][0]["code"] == "IRCP"
        assert actor["reference"]["identifier"]["system"] == ODS_SYSTEM
    return [actor["reference"]["identifier"]["value"] for actor in provision["actor"]]


def test_ids_that_commands_name_never_change() -> None:
    margaret = CAST["margaret"]
    assert margaret.patient_id("RZ1") == "8dcf474b-c5bc-582a-a46c-1ff4e8305d4f"
    assert (
        consent_id(margaret.nhs_number, "RZ1", ChoiceKind.NOT_TO_ONE_TRUST)
        == "43b185d6-e15e-53cb-8bda-01d3c717bd74"
    )


@pytest.mark.parametrize("member", CAST.values(), ids=CAST.keys())
def test_a_showcase_person_is_known_to_the_custodians_that_are_named(
    member: CastMember, population: Population
) -> None:
    records = population.records[member.nhs_number]
    assert set(records) == {member.practice, *member.trusts}
    for ods, resources in records.items():
        (patient,) = _kind(resources, "Patient")
        assert patient["id"] == member.patient_id(ods)
        assert patient["name"][0]["given"] == [member.given]
    assert bool(_consents(population, _key(member))) == bool(member.choices)


def _key(member: CastMember) -> str:
    return next(key for key, each in CAST.items() if each is member)


def test_margaret_is_known_to_all_trusts_and_has_years_of_observations(population: Population) -> None:
    records = _records(population, "margaret")
    assert set(records) == {"Z99901", *TRUSTS}
    observations = _kind(records["Z99901"], "Observation")
    days = sorted(date.fromisoformat(each["effectiveDateTime"][:10]) for each in observations)
    assert len(observations) > 40
    assert (days[-1] - days[0]).days > 3 * 365
    assert all(_kind(records[ods], "Observation") for ods in TRUSTS)
    assert len(_coded(observations, "59261-8")) >= 3


def test_margaret_denies_one_trust_at_every_custodian_and_no_other(population: Population) -> None:
    consents = population.consents[CAST["margaret"].nhs_number]
    assert set(consents) == {"Z99901", *TRUSTS}
    for (consent,) in consents.values():
        provision = consent["provision"]
        assert provision["type"] == "deny"
        assert _actors(provision) == ["RZ2"]
        assert set(provision) == {"type", "actor"}


def test_daniel_has_psychiatry_at_the_practice_and_the_mental_health_trust_only(
    population: Population,
) -> None:
    labelled = {
        ods: [each for each in resources if "PSY" in _labels(each)]
        for ods, resources in _records(population, "daniel").items()
    }
    assert len(labelled["Z99901"]) >= 4
    assert len(labelled[MENTAL_HEALTH_TRUST]) >= 8
    assert labelled["RZ1"] == []
    kinds = {each["resourceType"] for each in labelled[MENTAL_HEALTH_TRUST]}
    assert {"Condition", "Encounter", "Observation", "DocumentReference", "MedicationRequest"} <= kinds


def test_daniel_permits_treatment_but_psychiatry_only_to_one_trust(population: Population) -> None:
    consents = _consents(population, "daniel")
    assert consents
    for consent in consents:
        provision = consent["provision"]
        assert (provision["type"], [each["code"] for each in provision["purpose"]]) == ("permit", ["TREAT"])
        (denied,) = provision["provision"]
        assert (denied["type"], [each["code"] for each in denied["securityLabel"]]) == ("deny", ["PSY"])
        (exception,) = denied["provision"]
        assert (exception["type"], _actors(exception)) == ("permit", [MENTAL_HEALTH_TRUST])


def test_shanice_shares_in_emergencies_only(population: Population) -> None:
    for consent in _consents(population, "shanice"):
        (exception,) = consent["provision"]["provision"]
        assert consent["provision"]["type"] == "deny"
        assert set(consent["provision"]) == {"type", "provision"}
        assert exception["type"] == "permit"
        assert {each["code"] for each in exception["purpose"]} == {"ETREAT", "BTG"}


def test_harjit_permits_research(population: Population) -> None:
    for consent in _consents(population, "harjit"):
        assert consent["provision"]["type"] == "permit"
        assert [each["code"] for each in consent["provision"]["purpose"]] == ["HRESCH"]


def test_one_choice_for_a_time_is_in_force_and_one_is_over(population: Population) -> None:
    ends = {}
    for name in ("mei-ling", "gareth"):
        for consent in _consents(population, name):
            period = consent["provision"]["period"]
            assert period["start"] < AS_OF.isoformat()
            assert _actors(consent["provision"]) == ["RZ1"]
            ends[name] = period["end"]
    assert ends["gareth"] < AS_OF.isoformat() < ends["mei-ling"]


@pytest.mark.parametrize(
    ("name", "code", "label", "known_to"),
    [
        ("tomasz", "86406008", "HIV", {"RZ1"}),
        ("aisha", "240589008", "SEX", {"RZ1"}),
        ("aisha", "714812005", "SEX", {"RZ2"}),
        ("joanne", "706893006", "SDV", {"Z99901", "RZ2"}),
        ("craig", "66590003", "ETH", {"Z99902", "RZ3"}),
    ],
)
def test_a_secret_is_labelled_and_kept_where_it_was_told(
    name: str, code: str, label: str, known_to: set[str], population: Population
) -> None:
    records = _records(population, name)
    found = {ods: _coded(resources, code) for ods, resources in records.items()}
    assert {ods for ods, resources in found.items() if resources} == known_to
    assert all({"R", label} <= _labels(each) for resources in found.values() for each in resources)


def test_edith_is_allergic_at_one_trust_and_not_at_another(population: Population) -> None:
    records = _records(population, "edith")
    said = {
        ods: [each["code"]["coding"][0]["code"] for each in _kind(resources, "AllergyIntolerance")]
        for ods, resources in records.items()
    }
    assert said == {"Z99902": ["764146007"], "RZ1": ["764146007"], "RZ2": ["716186003"]}


def test_edith_is_misspelt_at_an_old_address_by_one_trust(population: Population) -> None:
    patients = {
        ods: _kind(resources, "Patient")[0] for ods, resources in _records(population, "edith").items()
    }
    assert {ods: patient["name"][0]["family"] for ods, patient in patients.items()} == {
        "Z99902": "Hargreaves",
        "RZ1": "Hargreaves",
        "RZ2": "Hargreeves",
    }
    assert patients["RZ1"]["address"] == patients["Z99902"]["address"] != patients["RZ2"]["address"]


def test_every_consent_has_what_ihe_pcf_asks_of_one(population: Population) -> None:
    for person, _, consent in population.resources():
        if consent["resourceType"] != "Consent":
            continue
        assert consent["status"] == "active"
        assert consent["scope"]["coding"][0]["code"] == "patient-privacy"
        assert consent["category"][0]["coding"][0]["code"] == "59284-0"
        assert consent["performer"] == [consent["patient"]]
        assert consent["organization"]
        assert [set(policy) for policy in consent["policy"]] == [{"uri"}]
        assert b64decode(consent["sourceAttachment"]["data"])
        assert person.born < date.fromisoformat(consent["dateTime"]) < AS_OF
        assert not {"verification", "policyRule"} & set(consent)
