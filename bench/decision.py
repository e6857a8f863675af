"""``python -m bench.decision``: what a consent decision costs, in memory and on one thread.

The question: 1,000 resources of one patient against 3 Consents with 9 rules (labels, an organisation, a period, a
class with a role, an author, research). Times are medians; a figure a resource is the whole divided by 1,000.
"""

import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from app.consent.decision import Decision, actor_keys_of, decide
from app.consent.directive import Directive, from_json, normalise, to_json
from app.consent.policy import Policy
from app.fhir.authors import lacking
from app.fhir.facets import Facets, code_keys
from app.fhir.names import reference_key
from app.vocabulary import ODS_SYSTEM, PURPOSE_SYSTEM, Caller, OdsCode, PurposeOfUse

RESOURCES = 1_000
AT = datetime(2026, 11, 24, tzinfo=UTC)
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"


def main() -> None:
    record, policy, caller = _record(), Policy.read(), _caller()
    small = [_directive(name, rule) for name, rule in _CONSENTS.items()]
    large = [_directive(f"c{number}", _rule_of_twenty(number)) for number in range(50)]
    kept = [to_json(one) for one in small]

    def decided(directives: list[Directive]) -> Decision:
        return decide(directives, caller, AT, policy, actor_keys=actor_keys_of(caller), epoch=1)

    for name, directives in (("3 consents, 9 rules", small), ("50 consents, 1,000 rules", large)):
        decision = decided(directives)
        print(f"{name}: {_released(decision, record)} of {RESOURCES} released")
        _print("compile the decision", partial(decided, directives))
        _print("decide 1,000, compiled before", partial(_released, decision, record))
        _print("compile, then decide 1,000", lambda given=directives: _released(decided(given), record))  # type: ignore[misc]  # bound at once
    print("as kept")
    _print("read 3 directives", lambda: [from_json(one) for one in kept])


def _released(decision: Decision, record: list[Facets]) -> int:
    return sum(map(decision.releases, record))


def _print(what: str, work: Callable[[], object]) -> None:
    print(f"  {what:<32}{_milliseconds(work) * 1e3:10.1f} µs")


def _milliseconds(work: Callable[[], object], *, runs: int = 31) -> float:
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def _caller() -> Caller:
    return Caller(
        subject="ehr",
        client_id="ehr",
        organisation=OdsCode("RX1"),
        purpose=PurposeOfUse.TREAT,
        scopes=("system/*.rs",),
        token_id="t",  # noqa: S106  # not a secret
        expires_at=AT,
        roles=("nurse",),
        practitioner="https://fhir.nhs.uk/Id/sds-user-id|1",
    )


def _directive(name: str, rule: dict[str, Any]) -> Directive:
    consent = {
        "resourceType": "Consent",
        "id": name,
        "status": "active",
        "scope": {"coding": [{"system": SCOPE, "code": "patient-privacy"}]},
        "patient": {"reference": "Patient/p"},
        "policy": [{"uri": f"https://policy.example/{name}"}],
        "provision": rule,
    }
    return normalise(consent, version=1, server_time=AT)


def _actor(system: str, value: str, kind: str) -> list[dict[str, Any]]:
    return [{"reference": {"type": kind, "identifier": {"system": system, "value": value}}}]


def _labels(system: str, *codes: str) -> list[dict[str, str]]:
    return [{"system": system, "code": code} for code in codes]


_CONSENTS: dict[str, dict[str, Any]] = {
    "care": {
        "type": "permit",
        "purpose": _labels(PURPOSE_SYSTEM, "TREAT"),
        "provision": [
            {"type": "deny", "securityLabel": _labels(ACT_CODE, "PSY", "SDV")},
            {"type": "deny", "dataPeriod": {"start": "2018-01-01", "end": "2018-12-31"}},
            {
                "type": "deny",
                "class": _labels("http://hl7.org/fhir/resource-types", "MedicationStatement"),
                "actor": _actor("https://roles.example", "nurse", "PractitionerRole"),
                "provision": [
                    {
                        "type": "permit",
                        "data": [{"meaning": "authoredby", "reference": {"reference": "Practitioner/a1"}}],
                    }
                ],
            },
        ],
    },
    "objection": {
        "type": "deny",
        "actor": _actor(ODS_SYSTEM, "RX9", "Organization"),
        "provision": [{"type": "permit", "securityLabel": _labels(CONFIDENTIALITY, "N")}],
    },
    "research": {
        "type": "permit",
        "purpose": _labels(PURPOSE_SYSTEM, "HRESCH"),
        "provision": [{"type": "deny", "securityLabel": _labels(CONFIDENTIALITY, "R")}],
    },
}


def _rule_of_twenty(number: int) -> dict[str, Any]:
    """A root with 19 exceptions that all speak for the caller."""
    exceptions: list[dict[str, Any]] = []
    for one in range(19):
        start = AT - timedelta(days=40 * one + number)
        period = {"start": f"{start:%Y-%m-%d}", "end": f"{start + timedelta(days=3):%Y-%m-%d}"}
        code = {"coding": [{"system": "http://loinc.org", "code": f"{number}-{one}"}]}
        exceptions.append(
            {"type": "deny", "dataPeriod": period} if one % 2 else {"type": "deny", "code": [code]}
        )
    return {"type": "permit", "provision": exceptions}


def _record() -> list[Facets]:
    rng = random.Random(7)
    types = ["Observation"] * 6 + ["Condition", "MedicationStatement", "Encounter", "DocumentReference"]
    return [
        Facets(
            resource_type=rng.choice(types),
            id=str(number),
            custodian=OdsCode("RX1"),
            confidentiality=rng.choice([4] * 9 + [5]),
            sensitivity=frozenset(rng.choice([(), (), (), (), (), ("PSY", "BH", "SPI"), ("SDV",)])),
            codes=[key for _ in range(3) for key in code_keys("http://loinc.org", str(rng.randrange(500)))],
            authors=[reference_key(f"Practitioner/a{rng.randrange(20)}"), lacking("person", "identifier")],
            edges=[reference_key("Patient/p"), reference_key(f"Encounter/e{rng.randrange(50)}")],
            relevant_from=(day := AT - timedelta(days=rng.randrange(4_000))),
            relevant_until=day + timedelta(days=1),
        )
        for number in range(RESOURCES)
    ]


if __name__ == "__main__":
    main()
