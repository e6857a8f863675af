"""An access token says everything about its caller, and its verifier believes nothing else."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import NotAuthenticated
from app.smart.access import caller_of, claims_of
from app.smart.attestation import passing_on, read_attestation
from app.vocabulary import Caller, EmergencyReason, PurposeOfUse, ods_code
from tests.unit.smart.forgery import NODE, NOW

PRINTABLE = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["C", "Z"]), max_size=30
)
NAMED = PRINTABLE.filter(bool)
IDENTIFIERS = st.builds("{}|{}".format, st.sampled_from(["https://a.example", "urn:x"]), NAMED)
CALLERS = st.builds(
    Caller,
    subject=NAMED,
    client_id=NAMED,
    organisation=st.sampled_from(["RX1", "A81001"]).map(ods_code),
    purpose=st.sampled_from(PurposeOfUse),
    scopes=st.lists(st.sampled_from(["system/*.rs", "system/Patient.r"]), min_size=1, max_size=3).map(tuple),
    token_id=NAMED,
    expires_at=st.integers(1, 4_000_000_000).map(lambda at: datetime.fromtimestamp(at, UTC)),
    organisation_name=PRINTABLE,
    name=PRINTABLE,
    roles=st.lists(NAMED, max_size=3).map(tuple),
    practitioner=st.just("") | IDENTIFIERS,
    emergency=st.none() | st.builds(EmergencyReason, IDENTIFIERS, NAMED, NAMED),
    via=st.none() | NAMED,
    issuer=NAMED,
)


@given(CALLERS)
def test_a_caller_comes_back_from_the_token_unchanged(caller: Caller) -> None:
    claims = json.loads(json.dumps(claims_of(caller, NODE, issued_at=NOW)))
    assert caller_of(claims) == caller


@given(CALLERS)
@settings(max_examples=50)
def test_a_question_passed_on_names_the_original_caller(caller: Caller) -> None:
    extensions = json.loads(json.dumps(passing_on(caller)))
    attestation = read_attestation({"extensions": extensions}, {})
    assert attestation.on_behalf_of is not None
    assert attestation.on_behalf_of.subject == caller.subject
    assert attestation.on_behalf_of.organisation == caller.organisation
    assert attestation.on_behalf_of.organisation_name == caller.organisation_name
    assert (attestation.purpose, attestation.name, attestation.roles) == (
        caller.purpose,
        caller.name,
        caller.roles,
    )
    assert (attestation.practitioner, attestation.emergency) == (caller.practitioner, caller.emergency)


def test_the_claims_are_those_of_rfc_9068_and_ihe_iua() -> None:
    caller = Caller(
        subject="ward",
        client_id="ward",
        organisation=ods_code("RX1"),
        organisation_name="Example Trust",
        purpose=PurposeOfUse.TREAT,
        scopes=("system/Observation.rs", "system/Patient.rs"),
        token_id="t1",
        expires_at=NOW + timedelta(seconds=300),
        name="Dr A",
        roles=("R8000",),
        via="node-b",
        issuer=NODE,
    )
    assert claims_of(caller, NODE, issued_at=NOW) == {
        "iss": NODE,
        "sub": "ward",
        "aud": NODE,
        "exp": int(NOW.timestamp()) + 300,
        "iat": int(NOW.timestamp()),
        "jti": "t1",
        "client_id": "ward",
        "scope": "system/Observation.rs system/Patient.rs",
        "extensions": {
            "ihe_iua": {
                "subject_organization_id": "RX1",
                "subject_organization": "Example Trust",
                "subject_name": "Dr A",
                "subject_role": ["R8000"],
                "purpose_of_use": ["TREAT"],
            }
        },
        "act": {"sub": "node-b"},
    }


@pytest.mark.parametrize("missing", ["client_id", "scope", "extensions", "sub", "jti", "exp"])
def test_claims_of_another_making_are_refused(missing: str) -> None:
    caller = Caller("s", "c", ods_code("RX1"), PurposeOfUse.TREAT, ("system/*.rs",), "t", NOW, issuer=NODE)
    claims = claims_of(caller, NODE, issued_at=NOW)
    del claims[missing]
    with pytest.raises(NotAuthenticated):
        caller_of(claims)


@pytest.mark.parametrize("purposes", [[], ["TREAT", "ETREAT"], ["NONSENSE"], [7], "TREAT", 7])
def test_a_token_has_exactly_one_known_purpose(purposes: object) -> None:
    caller = Caller("s", "c", ods_code("RX1"), PurposeOfUse.TREAT, ("system/*.rs",), "t", NOW, issuer=NODE)
    claims = claims_of(replace(caller), NODE, issued_at=NOW)
    claims["extensions"]["ihe_iua"]["purpose_of_use"] = purposes
    with pytest.raises(NotAuthenticated):
        caller_of(claims)
