"""The seams: what the use cases need from the outside, declared by them. Each has two implementations."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from app.audit.entry import Entry, Receipt
from app.vocabulary import Caller


class Clock(Protocol):
    def now(self) -> datetime:
        """The present instant, aware, in UTC."""


class AuditSink(Protocol):
    async def record(self, entries: Sequence[Entry]) -> Sequence[Receipt]:
        """Receipts in the order of ``entries``; every entry is durable when this returns.

        All or none are kept. Raises AuditUnavailable when they could not be, or Overloaded when too many wait.
        """


class TokenVerifier(Protocol):
    def verify(self, bearer: str) -> Caller:
        """The caller whom the token proves. Signature, ``iss``, ``aud``, ``exp`` and type are all checked.

        Raises NotAuthenticated.
        """
