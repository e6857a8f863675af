"""The strict JOSE door: one test for each hole that a JWT library is known to have had."""

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import NotAuthenticated
from app.smart.jose import (
    MAX_BYTES,
    Demands,
    claimed_issuer,
    sign,
    signing_key,
    thumbprint,
    verify,
    verifying_key,
)
from tests.unit.smart.forgery import NOW, SECOND, b64, forge, pair

DEMANDS = Demands(
    types=("jwt",),
    audiences=("https://node.example/fhir",),
    max_lifetime=timedelta(seconds=300),
    leeway=timedelta(seconds=5),
    issuer="https://issuer.example",
)
CLAIMS: dict[str, Any] = {
    "iss": "https://issuer.example",
    "sub": "someone",
    "aud": "https://node.example/fhir",
    "exp": SECOND + 300,
    "iat": SECOND,
    "jti": "j-1",
}
RS256 = pair("RS256")
HEADER = {"alg": "RS256", "kid": "k1", "typ": "JWT"}


def verified(token: str, demands: Demands = DEMANDS) -> dict[str, Any]:
    known = verifying_key(RS256.jwk, algorithms=("RS256",))
    return dict(verify(token, lambda kid: known if kid == "k1" else None, demands, now=NOW))


def refused(token: str, why: str, demands: Demands = DEMANDS) -> None:
    with pytest.raises(NotAuthenticated, match=why):
        verified(token, demands)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CLAIMS.items() if key != name}


def test_an_honest_token_gives_its_claims() -> None:
    assert verified(forge(CLAIMS, RS256)) == CLAIMS


# Algorithms and keys.


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, 0, ["RS256"], {}])
def test_a_token_without_a_signature_is_refused(alg: object) -> None:
    refused(forge(CLAIMS, RS256, {**HEADER, "alg": alg}, sign=lambda _: b""), "'alg' must be RS256")


def test_the_algorithm_cannot_be_left_out() -> None:
    refused(forge(CLAIMS, RS256, {"kid": "k1", "typ": "JWT"}), "'alg' must be RS256")


@pytest.mark.parametrize("secret", [RS256.public_pem, RS256.public_der, json.dumps(dict(RS256.jwk)).encode()])
def test_the_public_key_cannot_be_used_as_a_shared_secret(secret: bytes) -> None:
    token = forge(
        CLAIMS, RS256, {**HEADER, "alg": "HS256"}, sign=lambda it: hmac.digest(secret, it, hashlib.sha256)
    )
    refused(token, "'alg' must be RS256")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512"])
def test_a_key_serves_only_the_algorithm_it_is_pinned_to(algorithm: str) -> None:
    other = replace(RS256, algorithm=algorithm)
    refused(forge(CLAIMS, other, {**HEADER, "alg": algorithm}), "'alg' must be RS256")


def test_a_signature_by_another_hash_is_refused_under_the_pinned_name() -> None:
    refused(forge(CLAIMS, replace(RS256, algorithm="RS512"), HEADER), "signature")


def test_a_signature_by_another_key_is_refused() -> None:
    refused(forge(CLAIMS, pair("RS256", "other"), HEADER), "signature")


def test_a_key_in_the_header_is_never_used() -> None:
    attacker = pair("RS256", "attacker")
    refused(forge(CLAIMS, attacker, {**HEADER, "jwk": dict(attacker.jwk)}), "signature")
    refused(forge(CLAIMS, attacker, {**HEADER, "jwk": dict(attacker.jwk), "kid": "attacker"}), "'kid'")


def test_an_address_of_keys_in_the_header_is_refused() -> None:
    refused(forge(CLAIMS, RS256, {**HEADER, "jku": "https://attacker.example/jwks"}), "'jku'")


@pytest.mark.parametrize("kid", ["unknown", "", None, 1, ["k1"], {"k1": 1}])
def test_a_key_that_is_not_known_by_its_id_is_refused(kid: object) -> None:
    refused(forge(CLAIMS, RS256, {**HEADER, "kid": kid}), "'kid'")


def test_the_kid_cannot_be_left_out() -> None:
    refused(forge(CLAIMS, RS256, {"alg": "RS256", "typ": "JWT"}), "'kid' is missing")


@pytest.mark.parametrize("length", [0, 1, 255, 257])
def test_a_signature_of_the_wrong_length_is_refused(length: int) -> None:
    refused(forge(CLAIMS, RS256, sign=lambda _: b"\1" * length), "signature")


def test_an_elliptic_signature_of_zeros_is_refused() -> None:
    known = verifying_key(pair("ES384").jwk, algorithms=("ES384",))
    for signature in (bytes(96), bytes(95), b"", b"\xff" * 96):
        token = forge(CLAIMS, pair("ES384"), sign=lambda _, raw=signature: raw)  # type: ignore[misc]
        with pytest.raises(NotAuthenticated, match="signature"):
            verify(token, lambda _: known, DEMANDS, now=NOW)


# The header.


@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], "b64", None])
def test_an_extension_that_must_be_understood_is_refused(crit: object) -> None:
    refused(forge(CLAIMS, RS256, {**HEADER, "crit": crit}), "'crit'")


def test_an_unencoded_payload_is_refused() -> None:
    refused(forge(CLAIMS, RS256, {**HEADER, "b64": False}), "'crit'")


@pytest.mark.parametrize("typ", ["at+jwt", "dpop+jwt", "logout+jwt", "", None, 1, ["JWT"]])
def test_a_token_of_another_type_is_refused(typ: object) -> None:
    refused(forge(CLAIMS, RS256, {**HEADER, "typ": typ}), "'typ' must be jwt")


def test_the_type_may_be_missing_only_where_that_is_allowed() -> None:
    untyped = forge(CLAIMS, RS256, {"alg": "RS256", "kid": "k1"})
    refused(untyped, "'typ'")
    assert verified(untyped, replace(DEMANDS, types=("jwt", ""))) == CLAIMS


# The form of the text.


def test_a_token_longer_than_16_kib_is_refused() -> None:
    refused(forge({**CLAIMS, "x": "y" * MAX_BYTES}, RS256), "longer")


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c", "\N{SNOWMAN}.b.c", "é", "x" * 100]
)
def test_what_is_not_a_compact_jws_is_refused(token: str) -> None:
    refused(token, "token")


def test_an_encrypted_token_is_refused() -> None:
    refused(forge(CLAIMS, RS256) + ".a.b", "three parts")


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("padding", ["=", "==", "\n", " ", "+", "/", "%3D"])
def test_padding_or_foreign_characters_make_no_second_spelling(part: int, padding: str) -> None:
    parts = forge(CLAIMS, RS256).split(".")
    parts[part] += padding
    refused(".".join(parts), "base64url|signature|sound JSON")


def test_unused_bits_of_the_last_character_make_no_second_spelling() -> None:
    token = forge(CLAIMS, RS256)  # 256 bytes of signature leave four unused bits
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(token[-1]) + 1]
    refused(token[:-1] + other, "canonical")


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'"text"',
        b"1",
        b"null",
        b"",
        b"{",
        b"\xff\xfe",
        b'{"exp": NaN}',
        b'{"exp": 1' + b"0" * 5000 + b"}",
    ],
)
def test_a_payload_that_is_not_a_sound_json_object_is_refused(body: bytes) -> None:
    refused(forge(body, RS256), "JSON")


def test_nesting_too_deep_for_the_parser_is_refused() -> None:
    refused(forge(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", RS256), "sound JSON")


@pytest.mark.parametrize("twice", ["iss", "sub", "aud", "exp", "jti", "scope"])
def test_a_claim_named_twice_is_refused(twice: str) -> None:
    body = json.dumps({**CLAIMS, "scope": "a"})[:-1] + f', "{twice}": 1}}'
    refused(forge(body.encode(), RS256), "twice")


def test_a_name_that_occurs_twice_further_down_is_refused() -> None:
    body = json.dumps(CLAIMS)[:-1] + ', "extensions": {"ihe_iua": {"a": 1, "a": 2}}}'
    refused(forge(body.encode(), RS256), "twice")


def test_a_header_that_names_its_algorithm_twice_is_refused() -> None:
    signing_input = b64(b'{"alg":"none","alg":"RS256","kid":"k1","typ":"JWT"}') + "." + b64(b"{}")
    refused(f"{signing_input}.{b64(RS256.sign(signing_input.encode()))}", "twice")


@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800", "line\\nbreak", "\\u007f", "a\x7fb", "a\x00b"])
def test_text_that_no_database_could_keep_is_refused(text: str) -> None:
    body = json.dumps(CLAIMS)[:-1] + f', "extensions": {{"name": ["{text}"]}}}}'
    refused(forge(body.encode(), RS256), "sound JSON")


# The claims.


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "iat", "jti"])
def test_no_claim_that_is_required_may_be_missing(name: str) -> None:
    refused(forge(without(name), RS256), f"'{name}' is missing")


@pytest.mark.parametrize(
    "aud", [["https://node.example/fhir"], [], "", "https://node.example/fhir/", None, 1, {}]
)
def test_the_audience_is_exactly_ours_and_one_string(aud: object) -> None:
    refused(forge({**CLAIMS, "aud": aud}, RS256), "'aud'")


@pytest.mark.parametrize("iss", ["https://other.example", "", None, 1, ["https://issuer.example"]])
def test_another_issuer_is_refused(iss: object) -> None:
    refused(forge({**CLAIMS, "iss": iss}, RS256), "'iss'")


@pytest.mark.parametrize("name", ["sub", "jti"])
@pytest.mark.parametrize("value", ["", None, 7, ["x"], "x" * 1025])
def test_subject_and_token_id_are_texts(name: str, value: object) -> None:
    refused(forge({**CLAIMS, name: value}, RS256), f"'{name}'")


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [str(SECOND), float(SECOND), True, None, -1, 0, 10**12, [SECOND]])
def test_a_time_that_is_not_a_whole_number_of_seconds_is_refused(name: str, value: object) -> None:
    refused(forge({**CLAIMS, name: value}, RS256), f"'{name}' must be a whole number")


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "1e999", "NaN"])
def test_a_time_without_end_is_refused_and_not_an_overflow(value: str) -> None:
    body = json.dumps(without("exp"))[:-1] + f', "exp": {value}}}'
    refused(forge(body.encode(), RS256), "JSON|whole number")


@pytest.mark.parametrize("exp", [SECOND - 3600, SECOND - 1, SECOND])
def test_a_token_is_refused_from_the_second_it_expires(exp: int) -> None:
    refused(forge({**CLAIMS, "exp": exp}, RS256), "'exp' has passed")


def test_a_lifetime_beyond_the_limit_is_refused_by_how_much() -> None:
    refused(
        forge({**CLAIMS, "exp": SECOND + 3600}, RS256), "'exp' is 3600 s ahead; at most 300 s are allowed"
    )
    assert verified(forge({**CLAIMS, "exp": SECOND + 305}, RS256))["exp"] == SECOND + 305


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_a_token_from_the_future_is_refused(name: str) -> None:
    refused(forge({**CLAIMS, name: SECOND + 3600}, RS256), f"'{name}' lies 3600 s in the future")
    assert verified(forge({**CLAIMS, name: SECOND + 5}, RS256))[name] == SECOND + 5


# Keys as they are registered.


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384"])
def test_what_is_signed_here_verifies_with_any_implementation(algorithm: str) -> None:
    key = signing_key(pair(algorithm).pem, algorithm)
    token = sign(CLAIMS, key, typ="JWT")
    assert verify(token, lambda kid: key.public if kid == key.kid else None, DEMANDS, now=NOW) == CLAIMS
    honest = forge(CLAIMS, replace(pair(algorithm), kid=key.kid))
    assert verify(honest, lambda kid: key.public if kid == key.kid else None, DEMANDS, now=NOW) == CLAIMS


def test_a_kid_is_the_thumbprint_of_rfc_7638() -> None:
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX"
        "jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaS"
        "qzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksIN"
        "HaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    jwk = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_key_without_alg_is_pinned_to_the_first_that_fits() -> None:
    algorithms = ("RS384", "ES384", "RS512", "ES256")
    for made_for, pinned in (("RS512", "RS384"), ("ES256", "ES256"), ("ES384", "ES384")):
        jwk = {name: value for name, value in pair(made_for).jwk.items() if name != "alg"}
        assert verifying_key(jwk, algorithms=algorithms).algorithm == pinned


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "k"}, "private or symmetric"),
        ({**pair("RS384").jwk, "d": "AQAB"}, "private or symmetric"),
        ({**pair("RS384").jwk, "use": "enc"}, "verifying"),
        ({**pair("RS384").jwk, "key_ops": ["sign"]}, "verifying"),
        ({**pair("RS384").jwk, "key_ops": 7}, "verifying"),
        ({**pair("RS384").jwk, "kid": ""}, "kid"),
        ({**pair("RS384").jwk, "kid": "a\x00b"}, "kid"),
        ({**pair("RS384").jwk, "alg": "none"}, "must fit"),
        ({**pair("RS384").jwk, "alg": "HS256"}, "must fit"),
        ({**pair("RS384").jwk, "alg": "RS256"}, "must fit"),
        ({**pair("RS384").jwk, "alg": "ES384"}, "must fit"),
        ({**pair("RS384").jwk, "n": 7}, "base64url"),
        ({**pair("RS384").jwk, "n": "a b"}, "base64url"),
        ({**pair("RS384").jwk, "e": "AQ"}, "."),
        (pair("RS384", "small", 1024).jwk, "2048"),
        ({**pair("ES384").jwk, "crv": "P-521"}, "must fit"),
        ({**pair("ES384").jwk, "y": pair("ES384").jwk["x"]}, "."),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "k"}, "must fit"),
        ({}, "must fit"),
        ("text", "object"),
    ],
)
def test_a_key_that_should_not_be_trusted_is_refused_with_its_reason(jwk: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        verifying_key(jwk, algorithms=("RS384", "ES384", "RS512", "ES256"))


def test_a_private_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(signing_key(RS256.pem, "RS256"))
    assert str(signing_key(RS256.pem, "RS256").kid) in repr(signing_key(RS256.pem, "RS256"))


def test_a_public_key_cannot_sign() -> None:
    with pytest.raises(ValueError, match="not a private key"):
        signing_key(RS256.public_pem.decode(), "RS256")


# Anything at all.


@given(st.text())
def test_arbitrary_text_is_refused_and_nothing_else(text: str) -> None:
    refused(text, ".")


@given(st.text(alphabet="AaeyJ-_0.=", max_size=200))
def test_text_that_resembles_a_token_is_refused_and_nothing_else(text: str) -> None:
    refused(text, ".")
    with pytest.raises(NotAuthenticated):
        claimed_issuer(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(CLAIMS)), JSON)
def test_any_value_in_any_claim_is_verified_or_refused(name: str, value: object) -> None:
    try:
        claims = verified(forge({**CLAIMS, name: value}, RS256))
    except NotAuthenticated:
        return
    assert claims[name] == value


@given(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku"]), JSON)
def test_any_value_in_the_header_is_verified_or_refused(name: str, value: object) -> None:
    try:
        claims = verified(forge(CLAIMS, RS256, {**HEADER, name: value}))
    except NotAuthenticated:
        return
    assert claims == CLAIMS
