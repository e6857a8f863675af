"""The token endpoint: who gets a token, for what, and the one sentence that everybody else gets."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db import Database
from app.smart.attestation import Attestation, passing_on
from app.smart.clients import Client, ClientRegister
from app.smart.issuer import ASSERTION_TYPE, TokenEndpoint, assertion_for
from app.smart.keys import KeyStore
from app.smart.oauth import OAuthError, TokenResponse, read_form
from app.smart.verifier import Verifier
from app.vocabulary import Caller, EmergencyReason, PurposeOfUse, ods_code
from tests.unit.smart.forgery import NODE, NOW, SECOND, TOKEN_URL, Pair, StillClock, forge, pair

RSA, EC = pair("RS384", "rsa"), pair("ES384", "ec")
WARD = Client(
    client_id="ward",
    name="Ward system",
    kind="system",
    organisation=ods_code("RX1"),
    organisation_name="Example Trust",
    jwks={"keys": [dict(RSA.jwk), dict(EC.jwk)]},
    scopes=("system/*.rs", "system/Observation.cruds", "system/AuditEvent.rs"),
    purposes=(PurposeOfUse.TREAT,),
)
NODE_B = replace(
    WARD,
    client_id="node-b",
    kind="node",
    organisation=ods_code("RX2"),
    purposes=(PurposeOfUse.TREAT, PurposeOfUse.ETREAT),
    emergency=True,
    speaks_for=(ods_code("RX9"),),
)
EMERGENCY = {
    "emergency_reason_code": "UNC",
    "emergency_reason_text": "found unconscious",
    "patient": "https://fhir.nhs.uk/Id/nhs-number|9000000009",
}


class Desk:
    """A token endpoint with its register, and the clients that come to it."""

    def __init__(self, database: Database, keystore: KeyStore) -> None:
        self.clock = StillClock()
        self.register = ClientRegister(database)
        self.keystore = keystore
        self.endpoint = TokenEndpoint(
            database,
            keystore,
            issuer_url=NODE,
            token_url=TOKEN_URL,
            audience=NODE,
            lifetime=timedelta(seconds=300),
            clock=self.clock,
        )

    async def ask(
        self,
        *,
        key: Pair = RSA,
        header: Mapping[str, Any] | None = None,
        form: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> TokenResponse:
        """An honest request of the ward's, but for what is said; a claim or parameter of None is left out."""
        said = {
            "iss": "ward",
            "sub": "ward",
            "aud": TOKEN_URL,
            "exp": SECOND + 300,
            "jti": uuid4().hex,
            **claims,
        }
        assertion = forge({name: value for name, value in said.items() if value is not None}, key, header)
        parameters = {
            "grant_type": "client_credentials",
            "scope": "system/Observation.rs",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
            **(form or {}),
        }
        return await self.endpoint.exchange(
            {name: text for name, text in parameters.items() if text is not None}
        )

    async def granted(self, **how: Any) -> Caller:
        """The caller of the token granted."""
        response = await self.ask(**how)
        return Verifier(self.keystore, NODE, NODE, self.clock).verify(response.access_token)

    async def refused(self, error: str, why: str, **how: Any) -> None:
        with pytest.raises(OAuthError, match=why) as caught:
            await self.ask(**how)
        assert caught.value.error == error
        assert caught.value.status == (401 if error == "invalid_client" else 400)

    async def passed_on(self, whose: Mapping[str, Any], **how: Any) -> Caller:
        extensions = {"candour_on_behalf_of": dict(whose)}
        return await self.granted(iss="node-b", sub="node-b", extensions=extensions, **how)


@pytest.fixture
async def desk(database: Database, keystore: KeyStore) -> Desk:
    desk = Desk(database, keystore)
    await desk.register.add(WARD)
    await desk.register.add(NODE_B)
    return desk


# What is granted.


async def test_a_token_names_the_client_its_organisation_and_its_only_purpose(desk: Desk) -> None:
    caller = await desk.granted()
    assert caller == Caller(
        subject="ward",
        client_id="ward",
        organisation=ods_code("RX1"),
        organisation_name="Example Trust",
        purpose=PurposeOfUse.TREAT,
        scopes=("system/Observation.rs",),
        token_id=caller.token_id,
        expires_at=NOW + timedelta(seconds=300),
        issuer=NODE,
    )


async def test_the_response_is_that_of_smart_backend_services(desk: Desk) -> None:
    response = await desk.ask(form={"scope": "system/Observation.read system/Patient.rs system/Patient.rs"})
    body = response.body()
    assert body.pop("access_token") == response.access_token
    assert body == {
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "system/Observation.read system/Patient.rs",
    }


async def test_no_two_tokens_have_the_same_id(desk: Desk) -> None:
    assert (await desk.granted()).token_id != (await desk.granted()).token_id


@pytest.mark.parametrize("key", [RSA, EC])
async def test_both_of_smarts_algorithms_prove_the_client(desk: Desk, key: Pair) -> None:
    assert (await desk.granted(key=key)).client_id == "ward"


@pytest.mark.parametrize("algorithm", ["RS512", "ES256"])
async def test_a_key_registered_for_another_allowed_algorithm_proves_the_client(
    desk: Desk, algorithm: str
) -> None:
    key = pair(algorithm, "other")
    await desk.register.add(replace(WARD, jwks={"keys": [dict(key.jwk)]}))
    assert (await desk.granted(key=key)).client_id == "ward"


@pytest.mark.parametrize("aud", [TOKEN_URL, NODE])
async def test_the_audience_is_the_token_url_or_the_issuer(desk: Desk, aud: str) -> None:
    assert (await desk.granted(aud=aud)).client_id == "ward"


@pytest.mark.parametrize("typ", ["JWT", "jwt", "client-authentication+jwt", None])
async def test_the_type_of_an_assertion_may_be_missing(desk: Desk, typ: str | None) -> None:
    header = {"alg": "RS384", "kid": "rsa"} | ({"typ": typ} if typ else {})
    assert (await desk.granted(header=header)).client_id == "ward"


async def test_the_client_id_may_be_repeated_in_the_form(desk: Desk) -> None:
    assert (await desk.granted(form={"client_id": "ward"})).client_id == "ward"


async def test_the_system_attests_its_user(desk: Desk) -> None:
    caller = await desk.granted(
        extensions={
            "ihe_iua": {
                "subject_name": "Dr Ann Example",
                "subject_role": ["R8000", {"system": "http://snomed.info/sct", "code": "158965000"}],
                "practitioner": "https://fhir.hl7.org.uk/Id/gmc-number|C1234567",
                "purpose_of_use": [{"system": "urn:oid:2.16.840.1.113883.5.8", "code": "TREAT"}],
                "something_else": {"is": "ignored"},
            }
        }
    )
    assert caller.name == "Dr Ann Example"
    assert caller.roles == ("R8000", "http://snomed.info/sct|158965000")
    assert caller.practitioner == "https://fhir.hl7.org.uk/Id/gmc-number|C1234567"


# Authentication.


@pytest.mark.parametrize(
    "form",
    [
        {"client_assertion": None},
        {"client_assertion_type": None},
        {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"},
        {"client_assertion": None, "client_secret": "s3cret", "client_id": "ward"},
    ],
)
async def test_without_an_assertion_the_client_is_told_how_to_authenticate(
    desk: Desk, form: dict[str, Any]
) -> None:
    await desk.refused("invalid_client", "Authenticate by private_key_jwt", form=form)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": SECOND + 3600}, "'exp' is 3600 s ahead; at most 300 s are allowed"),
        ({"exp": SECOND - 1}, "'exp' has passed 1 s ago"),
        ({"exp": str(SECOND + 60)}, "'exp' must be a whole number"),
        ({"exp": None}, "'exp' is missing"),
        ({"jti": None}, "'jti' is missing"),
        ({"aud": None}, "'aud' is missing"),
        ({"sub": None}, "'sub' is missing"),
        ({"iss": None}, "'iss'"),
        ({"iss": 7}, "'iss'"),
        ({"aud": [TOKEN_URL]}, "'aud' must be one string"),
        ({"aud": "https://other.example/oauth/token"}, f"'aud' must be one string: {TOKEN_URL} or {NODE}"),
        ({"aud": TOKEN_URL + "/"}, "'aud' must be one string"),
        ({"iat": SECOND + 3600}, "'iat' lies 3600 s in the future"),
        ({"nbf": SECOND + 3600}, "'nbf' lies 3600 s in the future"),
        ({"sub": "clinic"}, "'sub' must be the client id"),
        ({"iss": "clinic", "sub": "clinic"}, "No active client"),
        ({"jti": "x" * 256}, "'jti' must be a text"),
        ({"iss": "node-b"}, "'sub' must be the client id"),
    ],
)
async def test_each_defect_of_an_assertion_gets_one_sentence(
    desk: Desk, claims: dict[str, Any], why: str
) -> None:
    await desk.refused("invalid_client", why, **claims)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"alg": "RS384", "kid": "unknown", "typ": "JWT"}, "'kid' names no key"),
        ({"alg": "RS384", "typ": "JWT"}, "'kid' is missing"),
        ({"alg": "RS256", "kid": "rsa", "typ": "JWT"}, "'alg' must be RS384"),
        ({"alg": "none", "kid": "rsa", "typ": "JWT"}, "'alg' must be RS384"),
        ({"alg": "RS384", "kid": "rsa", "typ": "at+jwt"}, "'typ' must be"),
        ({"alg": "RS384", "kid": "rsa", "typ": "JWT", "crit": ["x"]}, "'crit'"),
        ({"alg": "RS384", "kid": "rsa", "typ": "JWT", "jku": "https://keys.example"}, "'jku'"),
        ({"alg": "ES384", "kid": "ec", "typ": "JWT"}, "signature"),
    ],
)
async def test_each_defect_of_its_header_too(desk: Desk, header: dict[str, Any], why: str) -> None:
    await desk.refused("invalid_client", why, header=header)


@pytest.mark.parametrize("assertion", ["", "a.b.c", "nonsense", "x" * 20_000, "\N{SNOWMAN}"])
async def test_an_assertion_that_is_none_is_refused(desk: Desk, assertion: str) -> None:
    await desk.refused("invalid_client", "assertion", form={"client_assertion": assertion})


async def test_another_clients_key_proves_nobody(desk: Desk) -> None:
    stranger = pair("RS384", "rsa-of-b")
    await desk.register.add(replace(NODE_B, jwks={"keys": [dict(stranger.jwk)]}))
    await desk.refused("invalid_client", "'kid' names no key", key=stranger)
    borrowed = {"alg": "RS384", "kid": "rsa", "typ": "JWT"}
    await desk.refused("invalid_client", "signature", key=stranger, header=borrowed)


async def test_an_access_token_of_ours_is_not_an_assertion(desk: Desk) -> None:
    token = (await desk.ask()).access_token
    await desk.refused("invalid_client", "No active client", form={"client_assertion": token})


async def test_another_client_id_in_the_form_is_refused(desk: Desk) -> None:
    await desk.refused("invalid_client", "'client_id' is not the client", form={"client_id": "node-b"})


async def test_a_deactivated_client_is_refused_as_an_unknown_one_is(desk: Desk) -> None:
    await desk.register.deactivate("ward")
    await desk.refused("invalid_client", "No active client with this id is registered here")


async def test_an_assertion_is_good_for_one_token_only(desk: Desk) -> None:
    await desk.ask(jti="once")
    await desk.refused("invalid_client", "'jti' was used before", jti="once")


async def test_an_assertion_is_used_up_even_when_nothing_was_granted(desk: Desk) -> None:
    await desk.refused("invalid_scope", "missing", jti="once", form={"scope": None})
    await desk.refused("invalid_client", "'jti' was used before", jti="once")


async def test_a_forged_assertion_does_not_use_up_an_honest_ones_id(desk: Desk) -> None:
    await desk.refused("invalid_client", "signature", jti="once", key=pair("RS384", "forged"), header=HONEST)
    assert (await desk.granted(jti="once")).client_id == "ward"


HONEST = {"alg": "RS384", "kid": "rsa", "typ": "JWT"}


async def test_of_many_requests_with_one_assertion_one_succeeds(desk: Desk) -> None:
    answers = await asyncio.gather(*(desk.ask(jti="once") for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, TokenResponse) for answer in answers) == 1
    assert sum(isinstance(answer, OAuthError) for answer in answers) == 7


async def test_used_assertions_are_forgotten_some_time_after_they_expired(
    desk: Desk, database: Database
) -> None:
    for minute in range(0, 30, 10):
        desk.clock.at = NOW + timedelta(minutes=minute)
        await desk.ask(exp=SECOND + minute * 60 + 60)
    assert await database.pool.fetchval("SELECT count(*) FROM assertion_jti") == 1


# Grant type, scope, purpose.


async def test_other_grants_are_not_offered(desk: Desk) -> None:
    for grant_type in ("password", "authorization_code", "refresh_token", "Client_Credentials"):
        await desk.refused("unsupported_grant_type", "client_credentials", form={"grant_type": grant_type})
    await desk.refused("invalid_request", "'grant_type' is missing", form={"grant_type": None})


@pytest.mark.parametrize(
    ("scope", "why"),
    [
        (None, "'scope' is missing"),
        ("   ", "'scope' is missing"),
        ("system/Patient.cruds", "system/Patient.cruds is more than the client is registered for"),
        ("system/Observation.rs system/*.cruds", "is more than"),
        ("system/Consent.rs", "is more than"),
        ("patient/Observation.rs", "needs a user"),
        ("user/*.rs", "needs a user"),
        ("system/Observation.rs?category=laboratory", "has a filter"),
        ("system/Observation.rsXYZ", "is not a scope"),
        ("openid", "openid is not a scope"),
        ("launch/patient", "is not a scope"),
        ('system/Observation.rs "quoted"', "^A scope is not a scope"),
        ("system/Observation.rs\nsystem/Patient.rs", "^A scope is not a scope"),
        (" ".join(f"system/Observation.rs?a={number}" for number in range(200)), "too long"),
    ],
)
async def test_a_scope_that_cannot_be_granted_is_refused_and_not_narrowed(
    desk: Desk, scope: str | None, why: str
) -> None:
    await desk.refused("invalid_scope", why, form={"scope": scope})


async def test_audit_events_are_granted_by_name_only(desk: Desk) -> None:
    caller = await desk.granted(form={"scope": "system/AuditEvent.rs"})
    assert caller.scopes == ("system/AuditEvent.rs",)


async def test_a_client_with_several_purposes_says_which(desk: Desk) -> None:
    await desk.register.add(replace(WARD, purposes=(PurposeOfUse.TREAT, PurposeOfUse.CAREMGT)))
    await desk.refused("invalid_request", "'purpose_of_use' is missing")
    assert (await desk.granted(form={"purpose_of_use": "CAREMGT"})).purpose == PurposeOfUse.CAREMGT
    claimed = {"ihe_iua": {"purpose_of_use": ["CAREMGT"]}}
    assert (await desk.granted(extensions=claimed)).purpose == PurposeOfUse.CAREMGT
    assert (await desk.granted(extensions=claimed, form={"purpose_of_use": "CAREMGT"})).purpose == "CAREMGT"


@pytest.mark.parametrize(
    ("claimed", "why"),
    [
        (["TREAT", "HRESCH"], "exactly one"),
        ([], "exactly one"),
        ("treat", "must be one of"),
        ("", "must be one of"),
        (7, "must be one of"),
        ([["TREAT"]], "must be one of"),
        ([{"system": "urn:other", "code": "TREAT"}], "must be one of"),
        ([{"code": ["TREAT"]}], "must be one of"),
    ],
)
async def test_a_purpose_that_is_not_exactly_one_known_code_is_refused(
    desk: Desk, claimed: object, why: str
) -> None:
    await desk.refused("invalid_request", why, extensions={"ihe_iua": {"purpose_of_use": claimed}})


async def test_form_and_assertion_may_not_disagree_on_the_purpose(desk: Desk) -> None:
    claimed = {"ihe_iua": {"purpose_of_use": ["HRESCH"]}}
    await desk.refused("invalid_request", "differs", extensions=claimed, form={"purpose_of_use": "TREAT"})


async def test_a_purpose_that_is_not_registered_is_refused(desk: Desk) -> None:
    await desk.refused("unauthorized_client", "purpose of use HRESCH", form={"purpose_of_use": "HRESCH"})


@pytest.mark.parametrize(
    "extensions",
    [
        7,
        [],
        "x",
        {"ihe_iua": 7},
        {"ihe_iua": {"subject_name": 7}},
        {"ihe_iua": {"subject_name": "x" * 201}},
        {"ihe_iua": {"subject_role": 7}},
        {"ihe_iua": {"subject_role": [7]}},
        {"ihe_iua": {"subject_role": [""]}},
        {"ihe_iua": {"subject_role": [{"system": "s"}]}},
        {"ihe_iua": {"subject_role": ["R"] * 21}},
        {"ihe_iua": {"practitioner": "no-system"}},
        {"ihe_iua": {"practitioner": "|value"}},
        {"ihe_iua": {"practitioner": "system|"}},
    ],
)
async def test_an_attestation_of_the_wrong_shape_is_refused(desk: Desk, extensions: object) -> None:
    await desk.refused("invalid_request", "'.*' (must|holds)", extensions=extensions)


async def test_a_client_registered_for_roles_attests_no_others(desk: Desk) -> None:
    await desk.register.add(replace(WARD, roles=("R8000", "R8001")))
    assert (await desk.granted(extensions={"ihe_iua": {"subject_role": "R8001"}})).roles == ("R8001",)
    claimed = {"ihe_iua": {"subject_role": ["R8000", "R0260"]}}
    await desk.refused("unauthorized_client", "may not attest", extensions=claimed)


# Emergencies.


@pytest.fixture
async def privileged(desk: Desk) -> Desk:
    purposes = (PurposeOfUse.TREAT, PurposeOfUse.ETREAT, PurposeOfUse.BTG)
    await desk.register.add(replace(WARD, purposes=purposes, emergency=True))
    return desk


@pytest.mark.parametrize("purpose", ["ETREAT", "BTG"])
async def test_an_emergency_token_carries_its_reason_and_one_person(privileged: Desk, purpose: str) -> None:
    expected = EmergencyReason(EMERGENCY["patient"], "UNC", "found unconscious")
    by_form = await privileged.granted(form={"purpose_of_use": purpose, **EMERGENCY})
    by_claim = await privileged.granted(extensions={"ihe_iua": {"purpose_of_use": purpose, **EMERGENCY}})
    assert (by_form.purpose, by_form.emergency) == (purpose, expected)
    assert (by_claim.purpose, by_claim.emergency) == (purpose, expected)


async def test_an_emergency_without_the_privilege_is_refused(desk: Desk) -> None:
    await desk.refused(
        "unauthorized_client", "purpose of use ETREAT", form={"purpose_of_use": "ETREAT", **EMERGENCY}
    )


@pytest.mark.parametrize("missing", sorted(EMERGENCY))
async def test_an_emergency_without_reason_or_person_is_refused(privileged: Desk, missing: str) -> None:
    form = {"purpose_of_use": "ETREAT", **EMERGENCY, missing: None}
    await privileged.refused("invalid_request", f"'{missing}' is missing", form=form)
    await privileged.refused("invalid_request", "need 'emergency_reason", form={"purpose_of_use": "ETREAT"})


async def test_an_emergency_reason_for_another_purpose_is_refused(privileged: Desk) -> None:
    form = {"purpose_of_use": "TREAT", **EMERGENCY}
    await privileged.refused("invalid_request", "only they", form=form)


@pytest.mark.parametrize(
    "wrong", [{"patient": "9000000009"}, {"patient": " "}, {"emergency_reason_text": "x" * 1001}]
)
async def test_an_emergency_of_the_wrong_shape_is_refused(privileged: Desk, wrong: dict[str, str]) -> None:
    form = {"purpose_of_use": "ETREAT", **EMERGENCY, **wrong}
    await privileged.refused("invalid_request", "'(patient|emergency_reason_text)'", form=form)


# A node that passes on another's question.

ORIGINAL = Caller(
    subject="ae-desk",
    client_id="ae-desk",
    organisation=ods_code("RX9"),
    organisation_name="Other Trust",
    purpose=PurposeOfUse.TREAT,
    scopes=("system/*.rs",),
    token_id="elsewhere",
    expires_at=NOW,
    name="Nurse B",
    roles=("R8001",),
    practitioner="https://fhir.hl7.org.uk/Id/nmc-number|00A0000A",
)
WHOSE = passing_on(ORIGINAL)["candour_on_behalf_of"]


async def test_a_question_passed_on_carries_the_original_caller_and_the_node(desk: Desk) -> None:
    caller = await desk.passed_on(WHOSE)
    kept = ("subject", "organisation", "organisation_name", "purpose", "name", "roles", "practitioner")
    assert [getattr(caller, name) for name in kept] == [getattr(ORIGINAL, name) for name in kept]
    assert (caller.client_id, caller.via) == ("node-b", "node-b")
    assert caller.scopes == ("system/Observation.rs",)


async def test_an_emergency_passed_on_keeps_its_reason(desk: Desk) -> None:
    reason = EmergencyReason(EMERGENCY["patient"], "UNC", "found unconscious")
    original = replace(ORIGINAL, purpose=PurposeOfUse.ETREAT, emergency=reason)
    caller = await desk.passed_on(passing_on(original)["candour_on_behalf_of"])
    assert (caller.purpose, caller.emergency) == (PurposeOfUse.ETREAT, reason)


async def test_this_nodes_own_assertion_is_accepted_by_another_node(desk: Desk, keystore: KeyStore) -> None:
    jwks = {"keys": keystore.jwks()["keys"]}
    await desk.register.add(replace(NODE_B, jwks=jwks))
    assertion = assertion_for(keystore, "node-b", TOKEN_URL, passing_on(ORIGINAL), now=NOW)
    response = await desk.ask(form={"client_assertion": assertion})
    caller = Verifier(keystore, NODE, NODE, desk.clock).verify(response.access_token)
    assert (caller.organisation, caller.via) == ("RX9", "node-b")
    again = assertion_for(keystore, "node-b", TOKEN_URL, passing_on(ORIGINAL), now=NOW)
    assert (await desk.ask(form={"client_assertion": again})).expires_in == 300


async def test_a_node_speaks_for_its_own_organisation_and_those_it_is_registered_for(desk: Desk) -> None:
    assert (await desk.passed_on({**WHOSE, "organisation": "RX2"})).organisation == "RX2"
    with pytest.raises(OAuthError, match="speak for RX1"):
        await desk.passed_on({**WHOSE, "organisation": "RX1"})


async def test_only_a_node_may_pass_on_a_question(desk: Desk) -> None:
    await desk.refused("unauthorized_client", "Only a node", extensions={"candour_on_behalf_of": dict(WHOSE)})


async def test_a_node_that_passes_on_a_question_is_held_to_its_own_registration(desk: Desk) -> None:
    with pytest.raises(OAuthError, match="purpose of use HRESCH"):
        await desk.passed_on({**WHOSE, "purpose": "HRESCH"})
    with pytest.raises(OAuthError, match="more than"):
        await desk.passed_on(WHOSE, form={"scope": "system/Patient.cruds"})
    await desk.register.add(replace(NODE_B, purposes=(PurposeOfUse.TREAT,), emergency=False))
    with pytest.raises(OAuthError, match="purpose of use ETREAT"):
        await desk.passed_on({**WHOSE, "purpose": "ETREAT", "emergency": EMERGENCY})


@pytest.mark.parametrize(
    "wrong",
    [
        {"sub": ""},
        {"sub": 7},
        {"organisation": "not an ods code"},
        {"organisation": None},
        {"purpose": ["TREAT", "ETREAT"]},
        {"purpose": None},
        {"roles": "x" * 201},
        {"emergency": EMERGENCY},
        {"emergency": 7},
        {"purpose": "ETREAT"},
    ],
)
async def test_a_question_passed_on_in_the_wrong_shape_is_refused(desk: Desk, wrong: dict[str, Any]) -> None:
    with pytest.raises(OAuthError) as caught:
        await desk.passed_on({**WHOSE, **wrong})
    assert caught.value.error == "invalid_request"


async def test_who_asks_is_said_in_one_place_only(desk: Desk) -> None:
    with pytest.raises(OAuthError, match="nowhere else"):
        await desk.passed_on(WHOSE, form={"purpose_of_use": "TREAT"})


# The operator, the settings, the form.


async def test_the_operator_mints_a_token_within_what_the_client_is_registered_for(desk: Desk) -> None:
    response = await desk.endpoint.mint("ward", Attestation(name="By hand"))
    caller = Verifier(desk.keystore, NODE, NODE, desk.clock).verify(response.access_token)
    assert (caller.client_id, caller.name, caller.scopes) == ("ward", "By hand", WARD.scopes)
    with pytest.raises(OAuthError, match="more than"):
        await desk.endpoint.mint("ward", Attestation(), scope="system/*.cruds")
    with pytest.raises(OAuthError, match="HRESCH"):
        await desk.endpoint.mint("ward", Attestation(purpose=PurposeOfUse.HRESCH))
    with pytest.raises(OAuthError, match="No active client"):
        await desk.endpoint.mint("nobody", Attestation())


@pytest.mark.parametrize("seconds", [-1, 0, 301])
async def test_no_endpoint_issues_tokens_of_another_lifetime_than_allowed(
    database: Database, keystore: KeyStore, seconds: int
) -> None:
    with pytest.raises(ValueError, match="1 to 300 seconds"):
        TokenEndpoint(
            database,
            keystore,
            issuer_url=NODE,
            token_url=TOKEN_URL,
            audience=NODE,
            lifetime=timedelta(seconds=seconds),
            clock=StillClock(),
        )


async def test_a_fraction_of_a_second_is_never_added_to_a_tokens_life(desk: Desk) -> None:
    desk.clock.at = datetime(2026, 11, 22, 12, 0, 0, 999_999, tzinfo=UTC)
    assert (await desk.granted()).expires_at == NOW + timedelta(seconds=300)


TEXTS = st.none() | st.text(max_size=20) | st.sampled_from(["TREAT", "ETREAT", "system/*.rs", "a|b"])


@given(
    form=st.dictionaries(st.sampled_from(["scope", "purpose_of_use", "client_id", *EMERGENCY]), TEXTS),
    extensions=st.recursive(
        st.none() | st.booleans() | st.integers() | TEXTS,
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["ihe_iua", "candour_on_behalf_of", "purpose_of_use", "subject_role", "sub", *EMERGENCY]
                ),
                inner,
            )
        ),
        max_leaves=8,
    ),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_a_client_sends_it_gets_a_token_or_a_reason(
    desk: Desk, form: dict[str, str | None], extensions: object
) -> None:
    answer = await asyncio.gather(desk.ask(form=form, extensions=extensions), return_exceptions=True)
    match answer[0]:
        case OAuthError(description=why):
            assert why.isascii()
            assert set(why).isdisjoint('"\\\n')
        case other:
            assert isinstance(other, TokenResponse)


@pytest.mark.parametrize(
    "body",
    ["a=1&a=2", "a=1&a=", "a=%ff", "novalue", "&".join(f"p{number}=1" for number in range(51)), "a=1&&b=2"],
)
def test_a_body_that_is_no_proper_form_is_an_invalid_request(body: str) -> None:
    with pytest.raises(OAuthError) as caught:
        read_form(body)
    assert caught.value.error == "invalid_request"


def test_a_form_without_a_value_is_as_if_the_parameter_were_not_sent() -> None:
    assert read_form("scope=system%2F*.rs+system%2FPatient.r&state=") == {
        "scope": "system/*.rs system/Patient.r"
    }
    assert read_form("") == {}


def test_an_error_is_rfc_6749s_own_json() -> None:
    error = OAuthError("invalid_scope", 'say "please"\\ \N{SNOWMAN}')
    assert error.body() == {"error": "invalid_scope", "error_description": "say 'please'/ ?"}
