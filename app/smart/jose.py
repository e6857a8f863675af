"""The one strict door to JOSE: compact JWS over python-jose's keys, RFC 7515, 7519 and 8725.

python-jose alone accepts an unknown ``crit``, a missing ``aud``, ``exp`` as text and padded base64url, and
raises OverflowError on ``exp: Infinity``. So nothing of it is used but its keys, each made for one algorithm:
they sign and they check signatures. Parsing and every claim are ours. Each known hole has a test of its own.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Never

from jose import jws

# Named, not chosen by python-jose at import: its other backends are not constant in time (CVE-2024-23342).
from jose.backends.cryptography_backend import CryptographyECKey, CryptographyRSAKey
from jose.exceptions import JOSEError

from app.errors import NotAuthenticated

MAX_BYTES = 16 * 1024
"""Longest token that is looked at."""

_KEY_TYPES: Mapping[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
}
"""Algorithm to key type and curve. No ``none``, no HS*: a shared secret proves nothing about who signed."""

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_RSA_BITS = range(2048, 8192 + 1)
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that a datetime can hold
_LONGEST_TEXT = 1024
_UNSTORABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")


class PrivateKeyGiven(ValueError):
    """A key that must not travel has travelled."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, good for exactly one algorithm."""

    kid: str
    algorithm: str
    jwk: Mapping[str, str]
    """Public members only, with ``kid``, ``alg`` and ``use``."""
    checks: Callable[[bytes, bytes], bool]
    """(signing input, signature) to whether they belong together."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, good for exactly one algorithm. ``repr`` shows its kid only."""

    kid: str
    algorithm: str
    public: VerifyingKey
    _private: Any

    def __repr__(self) -> str:
        return f"SigningKey({self.kid}, {self.algorithm})"


Keys = Callable[[str], VerifyingKey | None]
"""The pinned key of a kid, or None when there is none."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What a token must claim. Expiry is exact; ``leeway`` forgives clocks that run ahead of ours."""

    types: Collection[str]
    """Accepted ``typ`` in lower case; the empty string means that it may be missing."""
    audiences: Collection[str]
    max_lifetime: timedelta
    """Farthest that ``exp`` may lie ahead."""
    leeway: timedelta
    issuer: str
    required: Collection[str] = ("iss", "sub", "aud", "exp", "iat", "jti")


def sign(claims: Mapping[str, Any], key: SigningKey, *, typ: str) -> str:
    """A compact JWS over ``claims`` with ``alg``, ``kid`` and ``typ`` in its header."""
    payload = json.dumps(claims, separators=(",", ":"), allow_nan=False).encode()
    return str(jws.sign(payload, key._private, headers={"kid": key.kid, "typ": typ}, algorithm=key.algorithm))


def verify(token: str, keys: Keys, demands: Demands, *, now: datetime) -> Mapping[str, Any]:
    """The claims of a token whose signature, type, issuer, audience and times are all as demanded.

    Raises NotAuthenticated with one sentence that names the defect; never any other exception.
    """
    header, claims, signing_input, signature = _opened(token)
    _check_header(header, demands)
    key = keys(header["kid"])
    if key is None:
        raise NotAuthenticated("'kid' names no key that is registered here.")
    if header.get("alg") != key.algorithm:
        raise NotAuthenticated(f"'alg' must be {key.algorithm}, for which the key is registered.")
    if not _signed(key, signing_input, signature):
        raise NotAuthenticated("The signature does not belong to this token and key.")
    _check_claims(claims, demands, now.timestamp())
    return claims


def claimed_issuer(token: str) -> str:
    """What the token says its issuer is. Proves nothing: it only tells whose keys to try.

    Raises NotAuthenticated.
    """
    return _text(_opened(token)[1], "iss")


def _opened(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, signing input and signature of a canonical compact JWS."""
    if len(token) > MAX_BYTES:
        raise NotAuthenticated(f"The token is longer than {MAX_BYTES} bytes.")
    parts = token.split(".")
    if len(parts) != 3:
        raise NotAuthenticated("The token is not a JWT of three parts.")
    header, payload, signature = (_decoded(part) for part in parts)
    signing_input = token[: len(parts[0]) + 1 + len(parts[1])].encode("ascii")
    return _object(header), _object(payload), signing_input, signature


def _decoded(part: str) -> bytes:
    """base64url without padding, in its canonical form: one token has one spelling (RFC 4648, 3.5)."""
    if not _BASE64URL.match(part) or len(part) % 4 == 1:
        raise NotAuthenticated("A part of the token is not base64url.")
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if _encoded(raw) != part:
        raise NotAuthenticated("A part of the token is not canonical base64url.")
    return raw


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _object(raw: bytes) -> dict[str, Any]:
    """A JSON object without repeated names, numbers that are none, or text that cannot be stored."""
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
        if not isinstance(value, dict):
            raise NotAuthenticated("A part of the token is not a JSON object.")
        if b"\\" in raw or b"\x7f" in raw:  # JSON has no other way to say what is looked for
            _check_texts(value)
    except (ValueError, RecursionError) as error:
        raise NotAuthenticated("A part of the token is not sound JSON.") from error
    return value


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 8725, 2.7: which of two equal names counts differs between parsers; so neither does."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotAuthenticated("A name occurs twice in one object of the token.")
    return members


def _no_number(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)


def _check_texts(value: object) -> None:
    """Raises ValueError for a control character or a lone surrogate anywhere."""
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise ValueError("text that cannot be stored")
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_texts(name)
            _check_texts(member)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _check_header(header: Mapping[str, Any], demands: Demands) -> None:
    if "crit" in header or "b64" in header:
        raise NotAuthenticated("'crit' names a header extension that is not understood here.")
    typ = header.get("typ", "")
    if not isinstance(typ, str) or typ.lower() not in demands.types:
        raise NotAuthenticated(f"'typ' must be {_either(demands.types)}.")
    if not isinstance(header.get("kid"), str) or not header["kid"]:
        raise NotAuthenticated("'kid' is missing from the header.")
    # SMART App Launch 2.2, "Asymmetric authentication": a jku must equal the registered JWKS URL. Keys are
    # registered here by value, so none can. (``jwk`` and ``x5c`` are never looked at.)
    if "jku" in header:
        raise NotAuthenticated("'jku' is not accepted: keys are registered here by value.")


def _signed(key: VerifyingKey, signing_input: bytes, signature: bytes) -> bool:
    try:
        return key.checks(signing_input, signature)
    except (JOSEError, ValueError, TypeError, ArithmeticError):
        return False


def _check_claims(claims: Mapping[str, Any], demands: Demands, now: float) -> None:
    for name in demands.required:
        if name not in claims:
            raise NotAuthenticated(f"'{name}' is missing.")
    if _text(claims, "iss") != demands.issuer:
        raise NotAuthenticated("'iss' is not the issuer that is trusted for this.")
    _text(claims, "sub")
    _text(claims, "jti", longest=255)
    if not isinstance(claims["aud"], str) or claims["aud"] not in demands.audiences:
        raise NotAuthenticated(f"'aud' must be one string: {_either(demands.audiences)}.")
    _check_times(claims, demands, now)


def _check_times(claims: Mapping[str, Any], demands: Demands, now: float) -> None:
    """RFC 7519, 4.1.4 to 4.1.6. ``now`` in seconds since 1970."""
    leeway = demands.leeway.total_seconds()
    longest = demands.max_lifetime.total_seconds()
    times = {name: _second(claims, name) for name in ("exp", "iat", "nbf") if name in claims}
    if now >= times["exp"]:
        raise NotAuthenticated(f"'exp' has passed {now - times['exp']:.0f} s ago.")
    if times["exp"] > now + longest + leeway:
        ahead = times["exp"] - now
        raise NotAuthenticated(f"'exp' is {ahead:.0f} s ahead; at most {longest:.0f} s are allowed.")
    for name in ("iat", "nbf"):
        if times.get(name, 0) > now + leeway:
            raise NotAuthenticated(f"'{name}' lies {times[name] - now:.0f} s in the future.")


def _second(claims: Mapping[str, Any], name: str) -> int:
    value = claims[name]
    if type(value) is not int or not 0 < value <= _LAST_SECOND:  # bool is an int to isinstance
        raise NotAuthenticated(f"'{name}' must be a whole number of seconds since 1970.")
    return value


def _text(claims: Mapping[str, Any], name: str, *, longest: int = _LONGEST_TEXT) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise NotAuthenticated(f"'{name}' must be a text of 1 to {longest} characters.")
    return value


def _either(values: Collection[str]) -> str:
    return " or ".join(value or "absent" for value in values)


def verifying_key(jwk: Mapping[str, Any], *, algorithms: Collection[str]) -> VerifyingKey:
    """A public JWK (RFC 7517) pinned to one of ``algorithms``: its ``alg``, else the first that it fits.

    Raises ValueError with a sentence for whoever registers it; PrivateKeyGiven for one that is not public.
    """
    if not isinstance(jwk, Mapping):
        raise ValueError("a key must be a JSON object")
    if _PRIVATE_MEMBERS & jwk.keys():
        raise PrivateKeyGiven("this is a private or symmetric key; make a new pair and give its public half")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("the key is not meant for verifying signatures ('use' or 'key_ops')")
    algorithm = _algorithm_of(jwk, algorithms)
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 255 or not kid.isprintable():
        raise ValueError("the key needs a 'kid' of 1 to 255 printable characters")
    return _pinned(_public_members(jwk, algorithm), kid, algorithm)


def signing_key(pem: str, algorithm: str) -> SigningKey:
    """A private key in PKCS#8, named by its RFC 7638 thumbprint. Raises ValueError when it does not fit."""
    key_type, _ = _KEY_TYPES[algorithm]
    try:
        private = (CryptographyRSAKey if key_type == "RSA" else CryptographyECKey)(pem, algorithm)
        if private.is_public():
            raise ValueError(f"not a private key for {algorithm}")
        members = private.public_key().to_dict()
    except (JOSEError, AttributeError, TypeError) as error:
        raise ValueError(f"not a private key for {algorithm}") from error
    public = _pinned(_public_members(members, algorithm), thumbprint(members), algorithm)
    return SigningKey(public.kid, algorithm, public, private)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """SHA-256 over the required members in lexical order, base64url (RFC 7638, 3)."""
    names = ("e", "kty", "n") if jwk["kty"] == "RSA" else ("crv", "kty", "x", "y")
    canonical = json.dumps({name: jwk[name] for name in names}, separators=(",", ":"))
    return _encoded(hashlib.sha256(canonical.encode()).digest())


def _algorithm_of(jwk: Mapping[str, Any], algorithms: Collection[str]) -> str:
    kind = (jwk.get("kty"), jwk.get("crv"))
    fitting = [name for name in algorithms if _KEY_TYPES[name] in (kind, (kind[0], None))]
    if "alg" in jwk:
        fitting = [name for name in fitting if name == jwk["alg"]]
    if not fitting:
        raise ValueError(f"the key's 'kty', 'crv' and 'alg' must fit one of {', '.join(algorithms)}")
    return fitting[0]


def _public_members(jwk: Mapping[str, Any], algorithm: str) -> dict[str, str]:
    names = ("kty", "n", "e") if _KEY_TYPES[algorithm][0] == "RSA" else ("kty", "crv", "x", "y")
    members = {name: jwk.get(name) for name in names}
    if not all(isinstance(value, str) and _BASE64URL.match(value) for value in members.values()):
        raise ValueError(f"the key's members {', '.join(names)} must be base64url without padding")
    return {name: str(value) for name, value in members.items()}


def _pinned(members: Mapping[str, str], kid: str, algorithm: str) -> VerifyingKey:
    """A prebuilt key: python-jose is never left to guess what bytes or a JWKS are (CVE-2024-33663)."""
    backend = CryptographyRSAKey if members["kty"] == "RSA" else CryptographyECKey
    try:
        key = backend(dict(members), algorithm)
        if members["kty"] == "RSA" and key.prepared_key.key_size not in _RSA_BITS:
            raise ValueError(f"an RSA key must have {_RSA_BITS[0]} to {_RSA_BITS[-1]} bits")
    except (JOSEError, TypeError, KeyError) as error:
        raise ValueError("the key's numbers are not those of a key") from error
    return VerifyingKey(kid, algorithm, {**members, "kid": kid, "alg": algorithm, "use": "sig"}, key.verify)
