"""The choices of the demonstration's people as R4 Consents in the shapes of IHE Privacy Consent on FHIR (PCF).

An opt-out is a Consent whose provision denies; exceptions are nested and reverse it. One choice goes further than
PCF's single nested level: psychiatry is denied to all but one trust, inside a permit.
"""

from base64 import b64encode
from collections.abc import Callable
from types import MappingProxyType
from uuid import uuid5

from app.demo.catalogue import ACT_CODE
from app.demo.chart import transaction
from app.demo.json_text import Resource
from app.demo.organisations import MENTAL_HEALTH_TRUST, NAMESPACE, ORGANISATIONS
from app.demo.person import Choice, ChoiceKind, DemoPerson
from app.vocabulary import PURPOSE_SYSTEM, OdsCode, PurposeOfUse

SHARING_POLICY = "https://larkmere.example/policy/shared-care-record"
RESEARCH_POLICY = "https://larkmere.example/policy/research"
_RECIPIENT: Resource = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
            "code": "IRCP",
            "display": "information recipient",
        }
    ]
}


def consents_for(person: DemoPerson) -> list[tuple[OdsCode, Resource]]:
    """A transaction Bundle of Consents for each custodian of a person who made a choice, after ``bundles_for``.

    Every custodian keeps its own copy, so that the choice holds wherever its record is read. The Patient is referred to
    by its id: it is loaded before.
    """
    if not person.choices:
        return []
    return [
        (ods, transaction([consent(person, ods, choice) for choice in person.choices]))
        for ods in person.custodians
    ]


def consent(person: DemoPerson, ods: OdsCode, choice: Choice) -> Resource:
    """The copy of ``choice`` that ``ods`` keeps."""
    custodian = ORGANISATIONS[ods]
    id_ = consent_id(person.nhs_number.digits, ods, choice.kind)
    patient: Resource = {"reference": f"Patient/{person.patient_id(ods)}"}
    made = choice.made.isoformat()
    return {
        "resourceType": "Consent",
        "id": id_,
        "identifier": [{"system": f"https://{custodian.domain}/Id/record", "value": id_}],
        "status": "active",
        "scope": _coded(
            "http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", "Privacy Consent"
        ),
        "category": [_coded("http://loinc.org", "59284-0", "Consent Document")],
        "patient": patient,
        "dateTime": made,
        "performer": [patient],
        "organization": [custodian.reference],
        "sourceAttachment": {
            "contentType": "text/plain; charset=utf-8",
            "language": "en-GB",
            "data": b64encode(_SAID[choice.kind].encode()).decode(),
            "title": "What the person said",
            "creation": made,
        },
        "policy": [{"uri": RESEARCH_POLICY if choice.kind == ChoiceKind.RESEARCH else SHARING_POLICY}],
        "provision": _PROVISIONS[choice.kind](choice),
    }


def consent_id(nhs_number: str, ods: str, kind: ChoiceKind) -> str:
    """The id of a copy: the same in every load, so that a command can revoke it."""
    return str(uuid5(NAMESPACE, f"Consent/{ods}/{nhs_number}/{kind}"))


_SAID = MappingProxyType(
    {
        ChoiceKind.PSYCHIATRY_ONLY_TO_MENTAL_HEALTH: (
            "Whoever treats me may see my record, but psychiatry is for the mental health trust only."
        ),
        ChoiceKind.NOT_TO_ONE_TRUST: "I do not want this trust to see my record.",
        ChoiceKind.RESEARCH: "My record may be used for research.",
        ChoiceKind.EMERGENCIES_ONLY: "Share nothing about me, except in an emergency.",
        ChoiceKind.NOT_TO_ONE_TRUST_FOR_A_TIME: "For the time being, this trust is not to see my record.",
    }
)


def _coded(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _purposes(*purposes: PurposeOfUse) -> list[Resource]:
    return [{"system": PURPOSE_SYSTEM, "code": purpose.value} for purpose in purposes]


def _recipient(ods: OdsCode) -> list[Resource]:
    return [{"role": _RECIPIENT, "reference": ORGANISATIONS[ods].reference}]


def _named(choice: Choice) -> OdsCode:
    if choice.organisation is None:
        raise ValueError(f"the choice {choice.kind} needs an organisation")
    return choice.organisation


def _psychiatry_only_to_mental_health(choice: Choice) -> Resource:
    return {
        "type": "permit",
        "purpose": _purposes(PurposeOfUse.TREAT),
        "provision": [
            {
                "type": "deny",
                "securityLabel": [{"system": ACT_CODE, "code": "PSY"}],
                "provision": [{"type": "permit", "actor": _recipient(MENTAL_HEALTH_TRUST)}],
            }
        ],
    }


def _not_to_one_trust(choice: Choice) -> Resource:
    return {"type": "deny", "actor": _recipient(_named(choice))}


def _research(choice: Choice) -> Resource:
    return {"type": "permit", "purpose": _purposes(PurposeOfUse.HRESCH)}


def _emergencies_only(choice: Choice) -> Resource:
    emergencies = _purposes(PurposeOfUse.ETREAT, PurposeOfUse.BTG)
    return {"type": "deny", "provision": [{"type": "permit", "purpose": emergencies}]}


def _not_to_one_trust_for_a_time(choice: Choice) -> Resource:
    if choice.until is None:
        raise ValueError("a choice for a time needs its last day")
    period = {"start": choice.made.isoformat(), "end": choice.until.isoformat()}
    return {"type": "deny", "period": period, "actor": _recipient(_named(choice))}


_PROVISIONS: MappingProxyType[ChoiceKind, Callable[[Choice], Resource]] = MappingProxyType(
    {
        ChoiceKind.PSYCHIATRY_ONLY_TO_MENTAL_HEALTH: _psychiatry_only_to_mental_health,
        ChoiceKind.NOT_TO_ONE_TRUST: _not_to_one_trust,
        ChoiceKind.RESEARCH: _research,
        ChoiceKind.EMERGENCIES_ONLY: _emergencies_only,
        ChoiceKind.NOT_TO_ONE_TRUST_FOR_A_TIME: _not_to_one_trust_for_a_time,
    }
)
