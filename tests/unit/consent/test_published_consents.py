"""Consents that nobody here wrote: IHE PCF's, HL7's and the NHS's examples."""

import json
import lzma
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.consent.decision import actor_keys_of, decide
from app.consent.directive import Directive, normalise
from app.consent.labels import label
from app.consent.policy import Policy
from app.consent.provision import Effect
from app.errors import InvalidResource
from app.fhir.facets import Facets, facets_of
from app.vocabulary import OdsCode
from tests.unit.consent.vectors import caller_of

KEPT = datetime(2026, 11, 1, tzinfo=UTC)
SDS = "https://fhir.nhs.uk/Id/sds-user-id"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
RESOLVES = {
    "Practitioner/ex-practitioner": [f"{SDS}|1"],
    "Practitioner/ex-author": [f"{SDS}|2"],
    "Organization/ex-org-researcher": [f"{ODS}|RES1"],
}
TREATING = {"organisation": "RX1", "purpose": "TREAT", "practitioner": f"{SDS}|1"}
COLLEAGUE = {"organisation": "RX1", "purpose": "TREAT", "practitioner": f"{SDS}|3"}
RESEARCH = {"organisation": "RES1", "purpose": "HRESCH"}
ALCOHOL, WEIGHT, ENCOUNTER = "Observation/ex-alcoholUse", "Observation/ex-weight-2", "Encounter/ex-encounter"
EVERY = {ALCOHOL, WEIGHT, ENCOUNTER}


def directive(path: Path) -> Directive:
    return normalise(
        json.loads(path.read_text(encoding="utf-8")), version=1, server_time=KEPT, resolve=RESOLVES
    )


def labelled(path: Path) -> Facets:
    resource = json.loads(path.read_text(encoding="utf-8"))
    facets, _ = label(resource, facets_of(resource, custodian=OdsCode("RX1"), base_url=""))
    return facets


# What PCF publishes as the token of each of its Consents, in words of what leaves; undated data and data of unknown
# authors is withheld here under a denial, where PCF's residual lets it flow (the design notes' choice).
@pytest.mark.parametrize(
    ("name", "caller", "released"),
    [
        ("advanced-normal-break-glass-restricted", TREATING, {WEIGHT, ENCOUNTER}),
        ("advanced-normal-focused-psy-or-sdv", TREATING, {WEIGHT, ENCOUNTER}),
        ("advanced-normal-focused-restricted", TREATING, EVERY),
        ("advanced-normal-focused-restricted", COLLEAGUE, {WEIGHT, ENCOUNTER}),
        ("advanced-normal-restricted", TREATING, EVERY),
        ("basic-research", RESEARCH, EVERY),
        ("basic-research", TREATING, {WEIGHT, ENCOUNTER}),
        ("intermediate-authoredby", TREATING, set()),
        ("intermediate-not-authoredby", TREATING, {ALCOHOL, WEIGHT}),
        ("intermediate-encounter", TREATING, EVERY),
        ("intermediate-not-encounter", TREATING, set()),
        ("intermediate-timeframe", TREATING, {ALCOHOL}),
        ("intermediate-not-timeframe", TREATING, {WEIGHT}),
        ("intermediate-purpose", RESEARCH, set()),
        ("intermediate-purpose", TREATING, {WEIGHT, ENCOUNTER}),
    ],
)
def test_an_ihe_consent_releases_what_its_token_says(
    shared_data: Path, name: str, caller: dict[str, Any], released: set[str]
) -> None:
    examples = shared_data / "ihe" / "pcf" / "examples"
    asking = caller_of(caller)
    decision = decide(
        [directive(examples / f"Consent-ex-consent-{name}.json")],
        asking,
        datetime(2026, 11, 24, tzinfo=UTC),
        Policy.read(),
        actor_keys=actor_keys_of(asking),
        epoch=1,
    )
    record = {one: labelled(examples / f"{one.replace('/', '-')}.json") for one in EVERY}
    assert {one for one, facets in record.items() if decision.releases(facets)} == released


def test_every_ihe_consent_is_understood(shared_data: Path) -> None:
    paths = sorted((shared_data / "ihe" / "pcf" / "examples").glob("Consent-*.json"))
    assert len(paths) == 12
    assert {directive(path).rule.effect for path in paths} == {Effect.PERMIT}


REFUSED = {
    # A permission whose actor is the custodian of the data, not who may receive it.
    "consent-example-notAuthor": {"Consent.provision.actor[0].role"},
    # A permission for the actor who wrote the document, likewise.
    "consent-example-signature": {"Consent.provision.provision[0].actor[0].role"},
}


def test_hl7s_consents_are_understood_or_refused_by_element(shared_data: Path) -> None:
    with lzma.open(shared_data / "hl7" / "examples" / "Consent.ndjson.xz", "rt", encoding="utf-8") as lines:
        examples = [json.loads(line) for line in lines]
    refused: dict[str, set[str | None]] = {}
    for example in examples:
        try:
            normalise(example, version=1, server_time=KEPT)
        except InvalidResource as refusal:
            refused[example["id"]] = {issue.expression for issue in refusal.issues}
    assert refused == REFUSED


def test_an_nhs_proxys_consent_is_understood(shared_data: Path) -> None:
    path = shared_data / "uk" / "vrs" / "requests-POST_Consent-adult_to_adult_proxy_creation.json"
    given = directive(path)
    assert given.scope == "patient-privacy"
    assert given.rule.period is not None
    assert given.rule.actors is not None
    assert [actor.kind for actor in given.rule.actors.any_of] == ["related"]


def test_an_nhs_consent_without_a_type_is_refused(shared_data: Path) -> None:
    path = shared_data / "uk" / "uk-core" / "examples" / "UKCore-Consent-ForInformationAccess-Example.json"
    with pytest.raises(InvalidResource) as refusal:
        directive(path)
    assert "Consent.provision.type" in {issue.expression for issue in refusal.value.issues}
