"""What every TokenVerifier promises; subclassed once per implementation."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from app.errors import NotAuthenticated
from app.ports import TokenVerifier
from app.smart.access import TYPE, claims_of
from app.smart.jose import sign
from app.smart.keys import KeyStore
from app.smart.verifier import Verifier
from app.vocabulary import Caller, EmergencyReason, PurposeOfUse, ods_code
from tests.unit.smart.forgery import NODE, NOW, StillClock, forge, pair

Token = Callable[[Caller], str]

CALLER = Caller(
    subject="ward",
    client_id="ward",
    organisation=ods_code("RX1"),
    purpose=PurposeOfUse.ETREAT,
    scopes=("system/*.rs",),
    token_id="t1",
    expires_at=NOW + timedelta(seconds=300),
    organisation_name="Example Trust",
    name="Dr A",
    roles=("R8000",),
    practitioner="https://fhir.hl7.org.uk/Id/gmc-number|C1234567",
    emergency=EmergencyReason("https://fhir.nhs.uk/Id/nhs-number|9000000009", "UNC", "unconscious"),
    via="node-b",
    issuer=NODE,
)


class TokenVerifierContract:
    """Subclasses give ``verifier``, whose time is ``clock``'s, and ``token``, which makes one that it accepts."""

    async def test_an_honest_token_gives_its_caller_whole(
        self, verifier: TokenVerifier, token: Token
    ) -> None:
        assert verifier.verify(token(CALLER)) == CALLER

    async def test_the_second_time_it_gives_the_same(self, verifier: TokenVerifier, token: Token) -> None:
        bearer = token(CALLER)
        assert verifier.verify(bearer) == verifier.verify(bearer)

    @pytest.mark.parametrize("bearer", ["", " ", "a.b.c", "nonsense", "\N{SNOWMAN}", "x" * 100_000])
    async def test_nonsense_proves_nobody(self, verifier: TokenVerifier, bearer: str) -> None:
        with pytest.raises(NotAuthenticated):
            verifier.verify(bearer)

    async def test_a_token_changed_in_one_place_proves_nobody(
        self, verifier: TokenVerifier, token: Token
    ) -> None:
        bearer = token(CALLER)
        verifier.verify(bearer)
        for place in range(0, len(bearer), 37):
            changed = bearer[:place] + ("A" if bearer[place] != "A" else "B") + bearer[place + 1 :]
            with pytest.raises(NotAuthenticated):
                verifier.verify(changed)

    async def test_a_token_never_seen_is_refused_once_it_has_expired(
        self, verifier: TokenVerifier, token: Token, clock: StillClock
    ) -> None:
        bearer = token(CALLER)
        clock.at = CALLER.expires_at
        with pytest.raises(NotAuthenticated):
            verifier.verify(bearer)

    async def test_a_token_seen_before_is_refused_once_it_has_expired(
        self, verifier: TokenVerifier, token: Token, clock: StillClock
    ) -> None:
        bearer = token(CALLER)
        clock.at = CALLER.expires_at - timedelta(microseconds=1)
        assert verifier.verify(bearer) == CALLER
        clock.at = CALLER.expires_at
        for _ in range(2):
            with pytest.raises(NotAuthenticated):
                verifier.verify(bearer)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


class TestVerifier(TokenVerifierContract):
    @pytest.fixture
    def verifier(self, keystore: KeyStore, clock: StillClock) -> Verifier:
        return Verifier(keystore, NODE, NODE, clock, keep=3)

    @pytest.fixture
    def token(self, keystore: KeyStore) -> Token:
        return lambda caller: sign(claims_of(caller, NODE, issued_at=NOW), keystore.access_key, typ=TYPE)

    async def test_a_token_of_another_type_proves_nobody(
        self, verifier: Verifier, keystore: KeyStore
    ) -> None:
        assertion = sign(claims_of(CALLER, NODE, issued_at=NOW), keystore.access_key, typ="JWT")
        with pytest.raises(NotAuthenticated, match="'typ'"):
            verifier.verify(assertion)

    async def test_a_token_signed_by_the_nodes_assertion_key_proves_nobody(
        self, verifier: Verifier, keystore: KeyStore
    ) -> None:
        token = sign(claims_of(CALLER, NODE, issued_at=NOW), keystore.assertion_key, typ=TYPE)
        with pytest.raises(NotAuthenticated, match="'kid'"):
            verifier.verify(token)

    async def test_a_token_that_borrows_a_kid_proves_nobody(
        self, verifier: Verifier, keystore: KeyStore
    ) -> None:
        header = {"alg": "RS256", "kid": keystore.access_key.kid, "typ": TYPE}
        with pytest.raises(NotAuthenticated, match="signature"):
            verifier.verify(forge(claims_of(CALLER, NODE, issued_at=NOW), pair("RS256"), header))

    @pytest.mark.parametrize(
        ("audience", "caller"),
        [
            ("https://other.example/fhir", CALLER),
            (NODE, replace(CALLER, issuer="https://other.example/fhir")),
        ],
    )
    async def test_a_token_for_or_by_another_node_proves_nobody(
        self, verifier: Verifier, keystore: KeyStore, audience: str, caller: Caller
    ) -> None:
        token = sign(claims_of(caller, audience, issued_at=NOW), keystore.access_key, typ=TYPE)
        with pytest.raises(NotAuthenticated, match=r"'aud'|'iss'"):
            verifier.verify(token)

    async def test_a_token_that_would_live_for_longer_than_300_seconds_proves_nobody(
        self, verifier: Verifier, token: Token
    ) -> None:
        with pytest.raises(NotAuthenticated, match="at most 300 s"):
            verifier.verify(token(replace(CALLER, expires_at=NOW + timedelta(hours=1))))

    async def test_no_more_tokens_are_remembered_than_allowed(self, verifier: Verifier, token: Token) -> None:
        for number in range(10):
            verifier.verify(token(replace(CALLER, token_id=f"t{number}")))
        assert len(verifier._verified) == 3

    async def test_a_refused_token_is_not_remembered(self, verifier: Verifier) -> None:
        with pytest.raises(NotAuthenticated):
            verifier.verify("a.b.c")
        assert not verifier._verified
