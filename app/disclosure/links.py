"""Page links: what they carry is sealed, and bound to who asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.asked import Asked
from app.consent.decider import fingerprint
from app.records.cursor import CursorSeal
from app.vocabulary import Caller


def binding(caller: Caller) -> str:
    """What a page link is bound to: another caller, organisation or purpose cannot use it."""
    return repr(fingerprint(caller))


def next_link(seal: CursorSeal, asked: Asked, position: Mapping[str, Any]) -> tuple[str, str]:
    """``Bundle.link`` with relation ``next``."""
    sealed = seal.seal(dict(position), bound_to=binding(asked.caller))
    return "next", f"{asked.request.base_url}/_page?_cursor={sealed}"
