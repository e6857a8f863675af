"""The decision for (caller, purpose, person), made once per consent epoch and kept."""

from collections import OrderedDict
from datetime import datetime
from typing import Protocol

from app.consent.decision import Decision, actor_keys_of, decide
from app.consent.policy import Policy
from app.consent.register import ConsentRegister
from app.vocabulary import Caller, PersonKey


class Subject(Protocol):
    """Whose consent counts: the person, as of the epoch read with their data."""

    @property
    def person(self) -> PersonKey: ...
    @property
    def consent_epoch(self) -> int: ...


class Decider:
    """Decides from the register; a kept decision is used only under the epoch and before the instant it is good for.

    The epoch is read in the same statement as the data, so a revocation is in force at the next request of every
    process (ARCHITECTURE 3.5).
    """

    def __init__(self, register: ConsentRegister, policy: Policy, *, keep: int = 20_000) -> None:
        self._register = register
        self._policy = policy
        self._keep = keep
        self._kept: OrderedDict[tuple[object, ...], Decision] = OrderedDict()

    def apart(self, register: ConsentRegister) -> "Decider":
        """By the same policy from ``register``, sharing no decision: a transaction's epochs may never come to be."""
        return Decider(register, self._policy, keep=self._keep)

    async def decide(self, subject: Subject, caller: Caller, at: datetime) -> Decision:
        key = (subject.person, subject.consent_epoch, fingerprint(caller))
        decision = self._kept.get(key)
        if decision is not None and (decision.next_change_at is None or at < decision.next_change_at):
            return decision
        directives = await self._register.directives(subject.person)
        decision = decide(
            directives,
            caller,
            at,
            self._policy,
            actor_keys=actor_keys_of(caller),
            epoch=subject.consent_epoch,
        )
        self._kept[key] = decision
        if len(self._kept) > self._keep:
            self._kept.popitem(last=False)
        return decision


def fingerprint(caller: Caller) -> tuple[object, ...]:
    """Everything about a caller that a decision may depend on."""
    return (
        caller.client_id,
        caller.organisation,
        caller.purpose,
        caller.subject,
        caller.practitioner,
        caller.roles,
        caller.emergency,
        caller.via,
    )
