"""The node's own keys: files that only it can read, made at its first start (ARCHITECTURE 3.4).

A directory holds ``access-*.pem`` (RS256, for access tokens), ``assertion-*.pem`` (ES384, for this node as a
client of others) and ``cursor.key``. Of several keys the one with the last name signs and all verify, so a
rotation is one more file; the old one is deleted once the tokens it signed have expired. Never in the
database, which others can read.
"""

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.errors import NotStarted
from app.smart.jose import SigningKey, VerifyingKey, signing_key

Use = Literal["access", "assertion"]

ALGORITHMS: Mapping[Use, str] = {"access": "RS256", "assertion": "ES384"}
"""Access tokens are checked at every request, and RSA is the cheapest to check; assertions are rare."""

_CURSOR_BYTES = 32


class KeyStore:
    """The keys in ``directory``, made when missing. Raises NotStarted when they cannot be had safely.

    An unknown kid makes it look at the files again, but not more often than every ``reload_seconds``.
    """

    def __init__(self, directory: Path, *, reload_seconds: float = 5.0) -> None:
        self._directory = directory
        self._reload_seconds = reload_seconds
        self._keys: dict[Use, tuple[SigningKey, ...]] = {}
        self._access: dict[str, VerifyingKey] = {}
        self._read_at = 0.0
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_missing()
            self._load()
            self.cursor_secret = _read_private(directory / "cursor.key")
        except OSError as error:
            raise NotStarted(f"the keys in {directory} cannot be read or made: {error.strerror}") from error
        if len(self.cursor_secret) != _CURSOR_BYTES:
            raise NotStarted(f"{directory / 'cursor.key'} does not hold {_CURSOR_BYTES} bytes; delete it")

    @property
    def access_key(self) -> SigningKey:
        """Signs access tokens."""
        return self._keys["access"][-1]

    @property
    def assertion_key(self) -> SigningKey:
        """Signs this node's client assertions to other nodes."""
        return self._keys["assertion"][-1]

    def access_verifier(self, kid: str) -> VerifyingKey | None:
        """The public half of any key that may have signed an access token."""
        found = self._access.get(kid)
        if found is None and time.monotonic() - self._read_at > self._reload_seconds:
            # Another process of this node may have rotated the keys. If they cannot be read now, those known serve.
            with suppress(OSError, NotStarted):
                self._load()
            found = self._access.get(kid)
        return found

    def jwks(self) -> dict[str, list[dict[str, object]]]:
        """The public keys of both uses as a JWK Set (RFC 7517, 5)."""
        keys = [key.public.jwk for use in ALGORITHMS for key in self._keys[use]]
        return {"keys": [{**jwk, "key_ops": ["verify"]} for jwk in keys]}

    def rotate(self, use: Use) -> SigningKey:
        """Makes a new key, which signs from now on; what older ones signed stays valid."""
        with _locked(self._directory):
            _write_private(self._directory / _name(use), _GENERATED[use]())
        self._load()
        return self._keys[use][-1]

    def _make_missing(self) -> None:
        with _locked(self._directory):
            for use in ALGORITHMS:
                if not any(self._directory.glob(f"{use}-*.pem")):
                    _write_private(self._directory / _name(use), _GENERATED[use]())
            if not (self._directory / "cursor.key").exists():
                _write_private(self._directory / "cursor.key", secrets.token_bytes(_CURSOR_BYTES))

    def _load(self) -> None:
        self._read_at = time.monotonic()
        keys = {use: tuple(self._read(use)) for use in ALGORITHMS}
        if not all(keys.values()):
            raise NotStarted(f"a key is missing from {self._directory}")
        self._keys = keys
        self._access = {key.kid: key.public for key in self._keys["access"]}

    def _read(self, use: Use) -> list[SigningKey]:
        keys = []
        for path in sorted(self._directory.glob(f"{use}-*.pem")):
            try:
                keys.append(signing_key(_read_private(path).decode("ascii"), ALGORITHMS[use]))
            except ValueError as error:
                raise NotStarted(f"{path} holds no private key for {ALGORITHMS[use]}") from error
        return keys


def _rsa() -> bytes:
    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def _p384() -> bytes:
    return _pem(ec.generate_private_key(ec.SECP384R1()))


_GENERATED: Mapping[Use, Callable[[], bytes]] = {"access": _rsa, "assertion": _p384}


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(use: Use) -> str:
    """Sorts by the time of its making, to the microsecond."""
    return f"{use}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.pem"


class _locked:  # noqa: N801  # reads as a clause: ``with _locked(directory):``
    """One process at a time makes keys; the kernel drops the lock of one that dies."""

    def __init__(self, directory: Path) -> None:
        self._file = os.open(directory / "keys.lock", os.O_RDWR | os.O_CREAT, 0o600)

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def _write_private(path: Path, content: bytes) -> None:
    """All or nothing, and never for a moment readable by others."""
    unfinished = path.with_suffix(".new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def _read_private(path: Path) -> bytes:
    """Raises NotStarted when anyone but its owner may read the file."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise NotStarted(f"{path} is readable by others than its owner; make it private (chmod 600)")
    return path.read_bytes()
