"""Keys and tokens made with cryptography alone, so that the module under test never vouches for itself."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECOND = int(NOW.timestamp())
NODE = "https://node.example/fhir"
TOKEN_URL = "https://node.example/oauth/token"

_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


class StillClock:
    """Stands still until it is moved."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


@dataclass(frozen=True)
class Pair:
    """A key pair for one algorithm, and how a client would sign with it."""

    kid: str
    algorithm: str
    jwk: Mapping[str, str]
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    def sign(self, signing_input: bytes) -> bytes:
        digest = _HASHES[self.algorithm[2:]]
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(signing_input, padding.PKCS1v15(), digest)
        size = (self.private.curve.key_size + 7) // 8
        r, s = decode_dss_signature(self.private.sign(signing_input, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    @property
    def pem(self) -> str:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def public_der(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@cache
def pair(algorithm: str = "RS256", kid: str = "k1", bits: int = 2048) -> Pair:
    """The same pair whenever the same is asked for."""
    if algorithm.startswith("ES"):
        curve = ec.generate_private_key(_CURVES[algorithm])
        numbers = curve.public_key().public_numbers()
        size = (curve.curve.key_size + 7) // 8
        members = {"kty": "EC", "crv": f"P-{curve.curve.key_size}"}
        members |= {"x": b64(numbers.x.to_bytes(size, "big")), "y": b64(numbers.y.to_bytes(size, "big"))}
        return Pair(kid, algorithm, {**members, "kid": kid, "alg": algorithm, "use": "sig"}, curve)
    key = rsa.generate_private_key(65537, bits)
    n = key.public_key().public_numbers().n
    members = {"kty": "RSA", "n": b64(n.to_bytes(bits // 8, "big")), "e": "AQAB"}
    return Pair(kid, algorithm, {**members, "kid": kid, "alg": algorithm, "use": "sig"}, key)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(
    payload: Mapping[str, Any] | bytes,
    key: Pair,
    header: Mapping[str, Any] | None = None,
    sign: Callable[[bytes], bytes] | None = None,
) -> str:
    """A compact JWS of whatever it is told; ``header`` None is an honest one."""
    if header is None:
        header = {"alg": key.algorithm, "kid": key.kid, "typ": "JWT"}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signing_input = f"{b64(json.dumps(header).encode())}.{b64(body)}"
    return f"{signing_input}.{b64((sign or key.sign)(signing_input.encode()))}"
