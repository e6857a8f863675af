"""AuditEvents as we write them: valid R4, conforming to each BALP profile they claim, and claiming no other."""

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.entry import Disclosed, Entry, Interaction
from app.audit.event import audit_event
from app.errors import InvalidResource, Issue
from app.fhir import text, validation
from app.fhir.profiles.conformance import validate_profile
from app.vocabulary import EmergencyReason, PurposeOfUse
from tests.fakes_audit import CALLER, NODE, NOON, REQUEST, an_entry
from tests.published import Published

BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/"
TOKEN = ["OAUTHaccessTokenUse.Minimal", "OAUTHaccessTokenUse.Comprehensive"]
OBSERVATION = (Disclosed("Observation/hb/_history/3", (("urn:labels", "R"),)),)
NOBODY: dict[str, Any] = {
    "patient_key": None,
    "person_key": None,
    "patient_reference": None,
    "nhs_number": None,
}
OVERRIDE = replace(
    CALLER,
    purpose=PurposeOfUse.ETREAT,
    emergency=EmergencyReason("urn:nhs|9434765919", "unconscious", "Found collapsed, no history"),
)

KINDS: dict[str, tuple[Entry, list[str]]] = {
    "read": (an_entry(), ["PatientRead", *TOKEN]),
    "vread": (an_entry(interaction=Interaction.VREAD, resources=OBSERVATION), ["PatientRead", *TOKEN]),
    "read of what is in nobody's record": (an_entry(**NOBODY), ["Read", *TOKEN]),
    "search": (an_entry(interaction=Interaction.SEARCH, resources=OBSERVATION * 3), ["PatientQuery", *TOKEN]),
    "search without results": (
        an_entry(interaction=Interaction.SEARCH, resources=()),
        ["PatientQuery", *TOKEN],
    ),
    "search for nobody": (an_entry(interaction=Interaction.SEARCH, **NOBODY), ["Query", *TOKEN]),
    "everything": (an_entry(interaction=Interaction.EVERYTHING), ["PatientQuery", *TOKEN]),
    "history": (an_entry(interaction=Interaction.HISTORY), TOKEN),
    "operation": (an_entry(interaction=Interaction.OPERATION), TOKEN),
    "export": (
        an_entry(interaction=Interaction.EXPORT, resources=OBSERVATION * 3),
        ["PrivacyDisclosure.Source", *TOKEN],
    ),
    "export of what is in nobody's record": (an_entry(interaction=Interaction.EXPORT, **NOBODY), TOKEN),
    "export refused": (an_entry(interaction=Interaction.EXPORT, outcome="4", resources=()), TOKEN),
    "create": (an_entry(interaction=Interaction.CREATE), ["PatientCreate", *TOKEN]),
    "create for nobody": (an_entry(interaction=Interaction.CREATE, **NOBODY), ["Create", *TOKEN]),
    "update": (an_entry(interaction=Interaction.UPDATE), ["PatientUpdate", *TOKEN]),
    "patch": (an_entry(interaction=Interaction.PATCH), ["PatientUpdate", *TOKEN]),
    "delete": (an_entry(interaction=Interaction.DELETE), ["PatientDelete", *TOKEN]),
    "transaction": (an_entry(interaction=Interaction.TRANSACTION, resources=OBSERVATION * 2), TOKEN),
    "batch": (an_entry(interaction=Interaction.BATCH), TOKEN),
    "reading the log": (an_entry(interaction=Interaction.AUDIT_READ, resources=()), TOKEN),
    "a token given": (an_entry(interaction=Interaction.TOKEN, **NOBODY), ["IHE.IUA.71"]),
    "a token refused": (an_entry(interaction=Interaction.TOKEN, outcome="8", caller=None, **NOBODY), []),
    "a decision": (an_entry(interaction=Interaction.CONSENT, outcome="8"), ["AuthZconsent"]),
    "a decision by default": (
        an_entry(interaction=Interaction.CONSENT, outcome="8", basis=("https://candour.example/policy|7",)),
        ["AuthZconsent"],
    ),
    "a decision without a basis": (an_entry(interaction=Interaction.CONSENT, outcome="8", basis=()), []),
    "administration": (an_entry(interaction=Interaction.ADMINISTRATION, **NOBODY), TOKEN),
    "read refused": (an_entry(outcome="4", resources=(), description="Refused by consent."), TOKEN),
    "search refused": (an_entry(interaction=Interaction.SEARCH, outcome="8", resources=()), TOKEN),
    "create refused": (an_entry(interaction=Interaction.CREATE, outcome="4", resources=()), TOKEN),
    "delete refused": (an_entry(interaction=Interaction.DELETE, outcome="4", resources=()), TOKEN),
    "failed": (an_entry(outcome="12", resources=(), description="A source failed."), TOKEN),
    "nobody known asks": (an_entry(outcome="8", caller=None, resources=(), **NOBODY), []),
    "break the glass": (an_entry(caller=OVERRIDE), ["PatientRead", *TOKEN]),
    "a node passes it on": (an_entry(caller=replace(CALLER, via="node-rx2")), ["PatientRead", *TOKEN]),
    "a system asks for itself": (
        an_entry(caller=replace(CALLER, subject="ward-app", practitioner="", name="", roles=())),
        ["PatientRead", *TOKEN],
    ),
    "little is known": (
        an_entry(
            caller=replace(CALLER, issuer="", name="", roles=("nurse",), organisation_name=""),
            request=replace(REQUEST, client_address="", request_id=""),
            nhs_number=None,
            decision_id=None,
            sources=(),
            basis=("unnamed",),
            description="",
        ),
        ["PatientRead", *TOKEN],
    ),
}


def written(entry: Entry) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(audit_event(entry, node=NODE, recorded=NOON))
    return event


def url(profile: str) -> str:
    return BALP + (profile if profile.startswith("IHE.") else f"IHE.BasicAudit.{profile}")


@pytest.fixture(scope="module")
def definitions(shared_data: Path) -> Published:
    return Published(shared_data / "ihe" / "balp" / "definitions.ndjson.xz")


def faults(event: dict[str, Any], profile: str, definitions: Published) -> list[Issue]:
    """Of an event by R4 and by a profile; none means that it conforms."""
    try:
        validation.validate(event)
    except InvalidResource as error:
        return list(error.issues)
    known = definitions.library.profile(profile)
    assert known is not None
    found = validate_profile(event, known, members=definitions.members)
    return [issue for issue in found if issue.severity == "error"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_event_is_valid_r4(kind: str) -> None:
    body = audit_event(KINDS[kind][0], node=NODE, recorded=NOON)
    validation.validate(text.parse(body).value, expected_type="AuditEvent")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_event_claims_its_profiles_and_no_other(kind: str) -> None:
    entry, profiles = KINDS[kind]
    assert written(entry)["meta"].get("profile", []) == [url(profile) for profile in profiles]


@pytest.mark.parametrize("kind", [kind for kind, (_, profiles) in KINDS.items() if profiles])
def test_every_kind_of_event_conforms_to_the_profiles_it_claims(kind: str, definitions: Published) -> None:
    event = written(KINDS[kind][0])
    for profile in event["meta"]["profile"]:
        assert faults(event, profile, definitions) == []


def test_every_published_example_is_accepted(shared_data: Path, definitions: Published) -> None:
    examples = sorted((shared_data / "ihe" / "balp" / "examples").glob("AuditEvent-*.json"))
    for path in examples:
        example = json.loads(path.read_text())
        for profile in example["meta"]["profile"]:
            assert faults(example, profile, definitions) == [], path.name
    assert len(examples) == 23


Change = Callable[[dict[str, Any]], object]


def agent(event: dict[str, Any], code: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one for one in event["agent"] if code in {coding["code"] for coding in one["type"]["coding"]}
    )
    return found


def entity(event: dict[str, Any], code: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in event["entity"] if one["type"]["code"] == code)
    return found


MUTANTS: list[tuple[str, str, Change]] = [
    ("read", "PatientRead", lambda event: event.update(outcome="4")),
    ("read", "PatientRead", lambda event: event.update(action="E")),
    ("read", "PatientRead", lambda event: event.pop("outcome")),
    ("read", "PatientRead", lambda event: event.pop("recorded")),
    ("read", "PatientRead", lambda event: event.pop("source")),
    ("read", "PatientRead", lambda event: event.update(patient="p1")),
    ("read", "PatientRead", lambda event: event["type"].update(code="object")),
    ("read", "PatientRead", lambda event: event["subtype"][0].update(code="search-type")),
    ("read", "PatientRead", lambda event: event["subtype"].clear()),
    ("read", "PatientRead", lambda event: event["agent"].remove(agent(event, "110153"))),
    ("read", "PatientRead", lambda event: event["agent"].remove(agent(event, "110152"))),
    ("read", "PatientRead", lambda event: event["agent"].append(copy.deepcopy(agent(event, "110153")))),
    ("read", "PatientRead", lambda event: agent(event, "110152").pop("network")),
    ("read", "PatientRead", lambda event: agent(event, "110152").pop("who")),
    ("read", "PatientRead", lambda event: agent(event, "110152").update(media={"code": "110030"})),
    ("read", "PatientRead", lambda event: agent(event, "IRCP").update(network={"address": "10.0.0.9"})),
    ("read", "PatientRead", lambda event: agent(event, "IRCP").update(requestor=False)),
    ("read", "PatientRead", lambda event: agent(event, "PROV").pop("requestor")),
    ("read", "PatientRead", lambda event: event["entity"].remove(entity(event, "1"))),
    ("read", "PatientRead", lambda event: event["entity"].append(copy.deepcopy(entity(event, "1")))),
    ("read", "PatientRead", lambda event: entity(event, "1")["what"].update(reference="Group/p1")),
    ("read", "PatientRead", lambda event: entity(event, "1").pop("role")),
    ("read", "PatientRead", lambda event: event["entity"].remove(entity(event, "2"))),
    ("read", "PatientRead", lambda event: event["entity"].append(copy.deepcopy(entity(event, "2")))),
    ("read", "PatientRead", lambda event: entity(event, "2")["role"].update(code="24")),
    ("read", "PatientRead", lambda event: entity(event, "XrequestId")["what"]["identifier"].pop("value")),
    ("search", "PatientQuery", lambda event: agent(event, "110153").update(type=agent(event, "PROV")["type"])),
    ("search", "PatientQuery", lambda event: entity(event, "2").pop("query")),
    ("search", "PatientQuery", lambda event: entity(event, "2").update(name="both")),
    ("search", "PatientQuery", lambda event: entity(event, "2").update(what={"display": "no"})),
    ("search", "PatientQuery", lambda event: entity(event, "2").update(detail=[{"type": "a", "valueString": "b"}])),
    ("create", "PatientCreate", lambda event: agent(event, "AUT")["type"]["coding"].append({"code": "x"}) or
        agent(event, "AUT").update(network={"address": "10.0.0.9"})),
    ("create", "PatientCreate", lambda event: entity(event, "2").pop("role")),
    ("delete", "PatientDelete", lambda event: agent(event, "custodian").pop("network")),
    ("read", "OAUTHaccessTokenUse.Minimal", lambda event: agent(event, "UserOauthAgent").pop("policy")),
    ("read", "OAUTHaccessTokenUse.Minimal", lambda event: agent(event, "UserOauthAgent")["policy"].append("urn:x")),
    ("read", "OAUTHaccessTokenUse.Comprehensive", lambda event: agent(event, "110150")["who"].pop("identifier")),
    ("read", "OAUTHaccessTokenUse.Comprehensive", lambda event: agent(event, "IRCP").pop("who")),
    ("a decision", "AuthZconsent", lambda event: event["agent"].remove(agent(event, "PROV"))),
    ("a decision", "AuthZconsent", lambda event: agent(event, "authserver")["who"].update(display="another")),
    ("a decision", "AuthZconsent", lambda event: event["entity"].remove(entity(event, "Consent"))),
    ("a decision", "AuthZconsent", lambda event: event["entity"].append(
        {"what": {"identifier": {"value": "r"}}, "type": {"system": "urn:x", "code": "XrequestId"}})),
    ("a token given", "IHE.IUA.71", lambda event: event["agent"].append(
        {"type": {"coding": [{"system": "urn:x", "code": "x"}]}, "requestor": False})),
    ("a token given", "IHE.IUA.71", lambda event: event["entity"].clear()),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "profile", "change"), MUTANTS)
def test_a_mutant_of_an_event_does_not_conform(
    kind: str, profile: str, change: Change, definitions: Published
) -> None:
    event = written(KINDS[kind][0])
    assert faults(event, url(profile), definitions) == []
    change(event)
    assert faults(event, url(profile), definitions) != []


def test_an_event_tells_who_where_what_why_and_by_what_right() -> None:
    event = written(an_entry(resources=OBSERVATION))
    assert event["recorded"] == "2026-11-03T12:00:00.000+00:00"
    assert agent(event, "IRCP")["name"] == "Dr A. Khan"
    assert agent(event, "IRCP")["who"]["identifier"] == {"system": CALLER.issuer, "value": "dr-khan"}
    assert agent(event, "IRCP")["policy"] == ["urn:ietf:params:oauth:jti:jti-1"]
    assert agent(event, "IRCP")["role"] == [
        {"coding": [{"system": "http://snomed.info/sct", "code": "309943004"}]}
    ]
    assert agent(event, "PROV")["who"]["identifier"]["value"] == "RX1"
    assert agent(event, "110152")["network"] == {"address": "10.1.2.3", "type": "2"}
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "TREAT"
    assert entity(event, "1")["what"]["identifier"]["value"] == "9434765919"
    assert entity(event, "2")["what"] == {"reference": "Observation/hb/_history/3"}
    assert entity(event, "2")["securityLabel"] == [{"system": "urn:labels", "code": "R"}]
    assert entity(event, "Consent")["what"]["reference"] == "Consent/c1/_history/2"
    assert entity(event, "XrequestId")["detail"] == [{"type": "trace-id", "valueString": REQUEST.trace_id}]
    assert {"type": "source", "valueString": "RX1 fresh"} in entity(event, "1")["detail"]


def test_a_refusal_tells_its_reason_and_what_was_asked() -> None:
    event = written(KINDS["read refused"][0])
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "Refused by consent.")
    raw = base64.b64decode(entity(event, "2")["query"]).decode()
    assert raw == "GET /fhir/Observation/hb\r\nAccept: application/fhir+json\r\n"


def test_an_override_tells_its_purpose_and_reason() -> None:
    [purpose] = written(KINDS["break the glass"][0])["purposeOfEvent"]
    assert purpose["coding"][0]["code"] == "ETREAT"
    assert purpose["text"] == "unconscious: Found collapsed, no history"


def test_a_default_policy_is_named_with_its_version() -> None:
    event = written(KINDS["a decision by default"][0])
    assert entity(event, "Consent")["what"]["identifier"] == {
        "system": "https://candour.example/policy",
        "value": "7",
    }


def test_every_resource_of_a_longer_answer_is_named() -> None:
    named = tuple(Disclosed(f"Condition/c{number}/_history/1") for number in range(5))
    event = written(an_entry(interaction=Interaction.SEARCH, resources=named))
    found = [one["what"]["reference"] for one in event["entity"] if one["type"]["code"] == "Condition"]
    assert found == [one.reference for one in named]


def test_the_time_is_told_in_utc_with_its_offset() -> None:
    summer = NOON.astimezone(timezone(timedelta(hours=1)))
    assert audit_event(KINDS["read"][0], node=NODE, recorded=summer) == audit_event(
        KINDS["read"][0], node=NODE, recorded=NOON
    )


HOSTILE = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", "\x00", "\ud800", "\u2028", " ", "", "}{", "\U0001f600"]
)


@given(HOSTILE, HOSTILE, HOSTILE, st.sampled_from(list(Interaction)), st.sampled_from(["0", "8"]))
def test_no_text_of_a_caller_breaks_the_event_or_stops_it(
    one: str, two: str, three: str, interaction: Interaction, outcome: str
) -> None:
    caller = replace(
        CALLER,
        subject=one,
        client_id=two,
        name=three,
        token_id=one,
        roles=(two, f"{one}|{two}"),
        organisation_name=three,
    )
    request = replace(REQUEST, target=one, client_address=two, request_id=three, trace_id=one, accept=two)
    entry = an_entry(
        interaction=interaction,
        outcome=outcome,
        caller=caller,
        request=request,
        description=three,
        sources=(one,),
    )
    event = text.parse(audit_event(entry, node=NODE, recorded=NOON)).value
    assert event["id"] == str(entry.id)
    validation.validate(event, expected_type="AuditEvent")


GOLDEN = Path(__file__).parents[2] / "golden" / "audit"
A_DAY = {"id": UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8"), "resources": OBSERVATION}


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("read", an_entry(**A_DAY)),
        ("refusal", an_entry(**{**A_DAY, "resources": ()}, outcome="4", description="Refused by consent.")),
        ("search", an_entry(**A_DAY, interaction=Interaction.SEARCH)),
        ("create", an_entry(**A_DAY, interaction=Interaction.CREATE)),
    ],
)
def test_an_event_is_written_in_the_same_bytes_as_last_year(name: str, entry: Entry) -> None:
    assert (
        audit_event(entry, node=NODE, recorded=NOON) == (GOLDEN / f"event-{name}.json").read_bytes().strip()
    )
