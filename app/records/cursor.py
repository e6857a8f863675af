"""Page links: sealed, so that nobody reads or alters what they carry; bound to who asked and to the question."""

import base64
import binascii
import os
import time
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.errors import BrokenCursor, ExpiredCursor

LIFETIME_SECONDS = 3600
_NONCE = 12


class CursorSeal:
    """AES-256-GCM under the node's cursor secret. The caller's fingerprint is authenticated with each link."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(secret)

    def seal(self, position: dict[str, Any], *, bound_to: str) -> str:
        nonce = os.urandom(_NONCE)
        body = orjson.dumps({**position, "until": int(time.time()) + LIFETIME_SECONDS})
        sealed = nonce + self._cipher.encrypt(nonce, body, bound_to.encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, text: str, *, bound_to: str) -> dict[str, Any]:
        """Raises BrokenCursor (altered, or another caller's) or ExpiredCursor."""
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            body = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound_to.encode())
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise BrokenCursor from error
        position: dict[str, Any] = orjson.loads(body)
        if position.pop("until") < time.time():
            raise ExpiredCursor
        return position
