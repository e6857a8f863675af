"""Access tokens of this node's own at the sources, each good for one original caller (SMART Backend Services)."""

import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from app.errors import MalformedBody
from app.fhir.text import parse
from app.records.sources import Source
from app.records.unanswered import Down
from app.vocabulary import Caller

SCOPE: Final = "system/*.rs"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_EARLY: Final = 30.0
"""Seconds before its end at which a token is no longer used."""
_LONGEST: Final = 3600
_BEARER: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,16384}=*", re.ASCII)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)

TokenKey = tuple[str, str | None, str | None, Caller]


def token_key(source: Source, caller: Caller) -> TokenKey:
    """Everything that a token at ``source`` may depend on: the whole caller but for their own token's life."""
    asking = replace(caller, token_id="", expires_at=_NEVER)
    return source.ods_code, source.token_url, source.client_id, asking


def token_form(assertion: str) -> dict[str, str]:
    """The form of the token request (RFC 7523, 2.2)."""
    return {
        "grant_type": "client_credentials",
        "scope": SCOPE,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }


@dataclass(frozen=True, slots=True)
class Token:
    bearer: str
    good_until: float
    """Loop time."""


def read_token(body: bytes, now: float) -> Token:
    """The token endpoint's answer (RFC 6749, 5.1). Raises Down when it is none."""
    try:
        answer = parse(body).value
    except MalformedBody as error:
        raise Down("the token endpoint does not speak JSON") from error
    bearer = answer.get("access_token")
    if not isinstance(bearer, str) or not _BEARER.fullmatch(bearer):
        raise Down("the token endpoint gave no token")
    if str(answer.get("token_type", "")).lower() != "bearer":
        raise Down("the token endpoint gave a token of another type")
    seconds = answer.get("expires_in", 60)
    life = min(seconds, _LONGEST) if isinstance(seconds, int) else 60
    return Token(bearer, now + life - _EARLY)


class TokenCache:
    """Tokens by source and caller, the longest unused dropped first. One process's saving of time, no more."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._kept: OrderedDict[TokenKey, Token] = OrderedDict()

    def find(self, key: TokenKey, now: float) -> str | None:
        token = self._kept.get(key)
        if token is None or token.good_until <= now:
            return None
        self._kept.move_to_end(key)
        return token.bearer

    def keep(self, key: TokenKey, token: Token) -> None:
        self._kept[key] = token
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def drop(self, key: TokenKey, bearer: str) -> None:
        """Forgets ``bearer``, which was refused, unless a fresh one is there already."""
        token = self._kept.get(key)
        if token is not None and token.bearer == bearer:
            del self._kept[key]
