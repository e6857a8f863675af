"""What one caller may see of one person's record, decided once and carried as a value (ARCHITECTURE 3.2).

Layers, the first decisive one wins: what emergency access never opens, emergency access, the patient's directives
(deny-overrides across slots), the default policy by purpose. Reasons are for the audit log and the citizen; they
are never told to a refused caller.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from app.consent.compiling import Asking, Opinion, opinion
from app.consent.policy import Policy
from app.consent.predicate import (
    FALSE,
    TRUE,
    LevelBetween,
    Predicate,
    Sensitive,
    Test,
    TypeIn,
    all_of,
    any_of,
    negated,
    specialised,
    test_of,
)
from app.consent.provision import ACTIVE, PRIVACY, Directive
from app.consent.purposes import purposes_of
from app.fhir.facets import Facets
from app.fhir.keys import key64
from app.fhir.names import identifier_key, identifier_text_key, reference_key
from app.fhir.sensitivity import UNKNOWN, UNLABELLED
from app.vocabulary import ODS_SYSTEM, Caller, PurposeOfUse

__all__ = ["FALSE", "OPEN", "TRUE", "Decision", "Predicate", "actor_keys_of", "decide", "live"]

CLIENT_SYSTEM: Final = "urn:ietf:rfc:6749:client_id"
"""Identifier system by which a Consent names a client."""

EMERGENCY: Final = "emergency access"

_SIGNATURES_KEPT: Final = 1_024


@dataclass(frozen=True, slots=True)
class Decision:
    """Which resources of one person may be released, for one caller, purpose and span of time."""

    permitted: bool
    """False: nothing at all can be released; refuse before anything is read."""
    residual: Predicate
    """What a resource must fulfil; for SQL by ``residual.compile_residual``."""
    basis: tuple[str, ...]
    """Every directive that spoke, as ``Consent/x/_history/2``; the policy, as ``uri|version``."""
    epoch: int
    policy_version: str
    next_change_at: datetime | None
    """The decision holds until then; None: until the epoch changes."""
    emergency: bool
    """Emergency access overrides what the patient or the policy denies."""
    _opinions: tuple[Opinion, ...] = field(default=(), repr=False, compare=False)
    _default: Predicate = field(default=FALSE, repr=False, compare=False)
    _tests: dict[tuple[object, ...], Test] = field(default_factory=dict, repr=False, compare=False)

    def releases(self, facets: Facets) -> bool:
        """The point evaluator: whether this resource may be released."""
        signature = (facets.resource_type, facets.confidentiality, facets.sensitivity, facets.custodian)
        test = self._tests.get(signature)
        if test is None:
            test = self._specialised(signature, facets)
        return test(facets)

    def _specialised(self, signature: tuple[object, ...], facets: Facets) -> Test:
        """A record has few signatures; for each, little is left to test."""
        if len(self._tests) >= _SIGNATURES_KEPT:
            self._tests.clear()
        test = self._tests[signature] = test_of(specialised(self.residual, facets))
        return test

    def explain(self, facets: Facets) -> tuple[str, ...]:
        """What each layer says of this resource, for audit only: never tell a caller whom it refuses."""
        said = [f"{one.directive.reference}: {_value(one, facets)}" for one in self._opinions]
        said.append(f"{self.policy_version}: {'PERMIT' if test_of(self._default)(facets) else 'DENY'}")
        if facets.confidentiality == UNLABELLED:
            said.append("label: withheld until labelled")
        if UNKNOWN in facets.sensitivity:
            said.append("label: not understood")
        if self.emergency:
            said.append(f"{EMERGENCY}: {'PERMIT' if self.releases(facets) else 'never'}")
        return tuple(said)


OPEN: Final = Decision(True, TRUE, (), 0, "", None, False)
"""For what is in nobody's record."""


def decide(
    directives: Sequence[Directive],
    caller: Caller,
    at: datetime,
    policy: Policy,
    *,
    actor_keys: frozenset[int],
    epoch: int,
) -> Decision:
    """Deny unless a directive or the policy permits, and deny if any directive denies.

    ``directives``: every version kept for the person. ``actor_keys``: everybody the caller counts as, at least
    ``actor_keys_of(caller)``; ``epoch``: the consent epoch that the directives were read under.
    """
    emergency = caller.purpose.is_emergency and caller.emergency is not None
    asking = Asking(caller, actor_keys, purposes_of(caller.purpose, emergency=emergency), at)
    alive = live(directives)
    opinions = tuple(one for directive in alive if (one := opinion(directive, asking)) is not None)
    default = _by_default(caller, policy, emergency=emergency)
    residual = FALSE if _contradicts_itself(caller) else _released(opinions, default)
    if emergency:
        residual = any_of(residual, _opened_in_emergency(policy))
    return Decision(
        permitted=residual != FALSE,
        residual=residual,
        basis=_basis(opinions, policy, emergency=emergency),
        epoch=epoch,
        policy_version=policy.reference,
        next_change_at=_next_change(alive, at),
        emergency=emergency,
        _opinions=opinions,
        _default=default,
    )


def live(directives: Iterable[Directive]) -> tuple[Directive, ...]:
    """The newest directive of each slot, where it is active: a revoked one does not bring back its predecessor.

    A superseded version still holds its place in the slot it was in, so that a Consent moved to another slot
    leaves nothing behind that could come to life again.
    """
    current: dict[str, Directive] = {}
    newest: dict[str, Directive] = {}
    for one in directives:
        if one.consent_id not in current or one.version > current[one.consent_id].version:
            current[one.consent_id] = one
        if one.slot not in newest or one.order > newest[one.slot].order:
            newest[one.slot] = one
    holders = (
        current[one.consent_id] for slot, one in newest.items() if current[one.consent_id].slot == slot
    )
    chosen = (one for one in holders if one.status == ACTIVE and one.scope == PRIVACY)
    return tuple(sorted(chosen, key=lambda one: one.order))


def actor_keys_of(caller: Caller) -> frozenset[int]:
    """Everybody that the token proves the caller to be: organisation, professional, roles, client."""
    keys = {
        identifier_key(ODS_SYSTEM, caller.organisation),
        reference_key(f"Organization/{caller.organisation}"),
        identifier_key(CLIENT_SYSTEM, caller.client_id),
    }
    keys |= {key64("role", code) for code in _role_codes(caller)}
    if caller.practitioner:
        keys.add(identifier_text_key(caller.practitioner))
    if caller.via is not None:
        keys.add(via_key(caller.via))
    return frozenset(keys)


def via_key(client_id: str) -> int:
    """Of the node that passes a question on: denials name it by its client id, permissions do not reach it."""
    return key64("via", client_id)


def _role_codes(caller: Caller) -> frozenset[str]:
    return frozenset(caller.roles) | {role.rpartition("|")[2] for role in caller.roles}


def _contradicts_itself(caller: Caller) -> bool:
    """An emergency is for treatment only; break-glass without its reason is none (2.6, row 7)."""
    if caller.emergency is not None:
        return not caller.purpose.is_emergency
    return caller.purpose is PurposeOfUse.BTG


def _by_default(caller: Caller, policy: Policy, *, emergency: bool) -> Predicate:
    purpose = PurposeOfUse.TREAT if emergency else caller.purpose
    default = policy.default_for(purpose)
    return (
        all_of(
            LevelBetween(UNLABELLED + 1, default.level_for(_role_codes(caller))),
            TRUE if default.types is None else TypeIn(default.types),
        )
        if default.permit_up_to
        else FALSE
    )


def _released(opinions: Sequence[Opinion], default: Predicate) -> Predicate:
    """Deny-overrides over what the directives say, then the default; and never what is not understood."""
    denied = any_of(*(one.denies for one in opinions))
    permitted = any_of(*(one.permits for one in opinions))
    closed = any(one.closes for one in opinions)
    return all_of(
        negated(LevelBetween(UNLABELLED, UNLABELLED)),
        negated(Sensitive(frozenset({UNKNOWN}))),
        any_of(permitted, FALSE if closed else default),
        negated(denied),
    )


def _value(one: Opinion, facets: Facets) -> str:
    if test_of(one.denies)(facets):
        return "DENY"
    if test_of(one.permits)(facets):
        return "PERMIT"
    return "CLOSED" if one.closes else "SILENT"


def _opened_in_emergency(policy: Policy) -> Predicate:
    return negated(Sensitive(policy.never)) if policy.never else TRUE


def _basis(opinions: Sequence[Opinion], policy: Policy, *, emergency: bool) -> tuple[str, ...]:
    spoken = tuple(one.directive.reference for one in opinions)
    return (*spoken, policy.reference, *((EMERGENCY,) if emergency else ()))


def _next_change(directives: Iterable[Directive], at: datetime) -> datetime | None:
    bounds = (
        bound
        for directive in directives
        for rule in directive.rule.walk()
        if rule.period is not None
        for bound in (rule.period.start, rule.period.end)
    )
    return min((bound for bound in bounds if bound is not None and bound > at), default=None)
