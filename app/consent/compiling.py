"""Provisions specialised on one caller, purpose and instant: what remains are conditions on the data.

Matching is three-valued. What cannot be told counts as yes for a denial and as no for a permission, element by
element; present elements are joined by AND, the values inside one by OR (R4 Consent.provision).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.consent.predicate import (
    FALSE,
    TRUE,
    CustodianIn,
    Empty,
    IdIn,
    LevelBetween,
    Meets,
    Overlaps,
    Predicate,
    Sensitive,
    TypeIn,
    Undated,
    Within,
    all_of,
    any_of,
    negated,
)
from app.consent.provision import Actor, ActorKind, Classes, Directive, Effect, Instance, Labels, Provision
from app.consent.purposes import PATIENT_SIDE, denial_covers, permit_covers
from app.fhir.authors import UNKNOWN_AUTHOR, kind_of_identifier, kind_of_reference, lacking
from app.fhir.facets import inner_kind_key, kind_key
from app.fhir.names import identifier_text_key, reference_key
from app.fhir.sensitivity import LEVELS, UNKNOWN, UNLABELLED
from app.fhir.systems import RESOURCE_TYPES, canonical_system
from app.vocabulary import ODS_SYSTEM, Caller

_READING = frozenset({"access", "use", "disclose"})
_HIGHEST = max(LEVELS.values())
_UNLABELLED = LevelBetween(UNLABELLED, UNLABELLED)


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, for what and when, as provisions see it."""

    caller: Caller
    keys: frozenset[int]
    purposes: frozenset[str]
    at: datetime

    @property
    def practitioner_system(self) -> str:
        return canonical_system(self.caller.practitioner.rpartition("|")[0])


@dataclass(frozen=True, slots=True)
class Opinion:
    """Where one directive denies and, elsewhere, permits; or, elsewhere still, closes."""

    directive: Directive
    denies: Predicate
    permits: Predicate
    """Counts where ``denies`` does not hold."""
    closes: bool
    """It speaks for this caller and purpose, and what it does not permit it does not leave to the default."""


def opinion(directive: Directive, asking: Asking) -> Opinion | None:
    """The directive's value over all data, for this question; None where it is silent on everything."""
    root = directive.rule
    if not _applies(root, asking):
        return None
    matched = _matches(root)
    children = [(child, *_counts(child, asking)) for child in root.exceptions if _applies(child, asking)]
    # A true exception, of the opposite effect, is considered only where the root itself matched; an additional rule
    # of the same effect by itself.
    exceptions = [(counts, denies) for child, counts, denies in children if child.effect is not root.effect]
    additions = [(counts, denies) for child, counts, denies in children if child.effect is root.effect]
    spoken = any_of(all_of(matched, _any_counts(exceptions)), _any_counts(additions))
    denied = any_of(all_of(matched, _any_denies(exceptions)), _any_denies(additions))
    if root.effect is Effect.DENY:
        return Opinion(directive, any_of(denied, all_of(negated(spoken), matched)), spoken, closes=False)
    return Opinion(directive, denied, any_of(spoken, matched), closes=True)


_Child = tuple[Predicate, Predicate]
"""Where a rule counts, and where, if it does, it comes to DENY; elsewhere it comes to PERMIT."""


def _counts(rule: Provision, asking: Asking) -> _Child:
    """Its own effect, unless a rule below resolves to the opposite; deny wins among siblings.

    Every condition stands at most twice in the result, so that it grows with the rules and not with their depth.
    """
    below = [_counts(child, asking) for child in rule.exceptions if _applies(child, asking)]
    if not below:
        return _matches(rule), TRUE if rule.effect is Effect.DENY else FALSE
    denies = _any_denies(below)
    if rule.effect is Effect.DENY:
        denies = any_of(denies, negated(_any_counts(below)))
    return _matches(rule), denies


def _any_counts(children: Iterable[_Child]) -> Predicate:
    return any_of(*(counts for counts, _ in children))


def _any_denies(children: Iterable[_Child]) -> Predicate:
    # Rules without exceptions are the many: they need no joining.
    return any_of(*(counts if denies is TRUE else all_of(counts, denies) for counts, denies in children))


# The context: who, for what, when.


def _applies(rule: Provision, asking: Asking) -> bool:
    return (
        (rule.period is None or rule.period.contains(asking.at))
        and _names_the_caller(rule, asking)
        and _covers_the_purpose(rule, asking)
        and _is_about_reading(rule)
    )


def _names_the_caller(rule: Provision, asking: Asking) -> bool:
    if rule.actors is None:
        return True
    told = [_is_the_caller(actor, asking) for actor in rule.actors.any_of]
    return _decided(rule, yes=True in told, unknown=rule.actors.unknown or None in told)


def _is_the_caller(actor: Actor, asking: Asking) -> bool | None:
    """None where the actor and the caller have no identifier in common by which to tell them apart."""
    if not asking.keys.isdisjoint(actor.keys):
        return True
    patient_side = asking.caller.purpose in PATIENT_SIDE
    match actor.kind:
        case ActorKind.ORGANISATION:
            told_apart = ODS_SYSTEM in actor.systems
        case ActorKind.PERSON:
            told_apart = patient_side or asking.practitioner_system in actor.systems
        case ActorKind.ROLE:
            told_apart = bool(asking.caller.roles)
        case ActorKind.RELATED:
            told_apart = not patient_side
        case ActorKind.CLIENT | ActorKind.OTHER:
            told_apart = False
    return False if told_apart else None


def _covers_the_purpose(rule: Provision, asking: Asking) -> bool:
    if rule.purposes is None:
        return True
    covers = denial_covers if rule.effect is Effect.DENY else permit_covers
    yes = any(covers(code, asking.purposes) for code in rule.purposes.codes)
    return _decided(rule, yes=yes, unknown=rule.purposes.unknown)


def _is_about_reading(rule: Provision) -> bool:
    """A denial of use or disclosure is one of reading; a permission must say access."""
    if rule.actions is None:
        return True
    wanted = _READING if rule.effect is Effect.DENY else {"access"}
    return _decided(rule, yes=not rule.actions.codes.isdisjoint(wanted), unknown=rule.actions.unknown)


def _decided(rule: Provision, *, yes: bool, unknown: bool) -> bool:
    return yes or (unknown and rule.effect is Effect.DENY)


# The data.


def _matches(rule: Provision) -> Predicate:
    deny = rule.effect is Effect.DENY
    parts: list[Predicate] = []
    if rule.classes is not None:
        parts.append(_of_class(rule.classes, deny=deny))
    if rule.labels is not None:
        parts.append(_labelled(rule.labels, deny=deny))
    if rule.codes is not None:
        parts.append(TRUE if deny and rule.codes.unknown else Overlaps("codes", rule.codes.keys))
    if rule.data_period is not None:
        start, end = rule.data_period.start, rule.data_period.end
        parts.append(any_of(Undated(), Meets(((start, end),))) if deny else Within(start, end))
    if rule.instances is not None:
        unknown = deny and rule.instances.unknown
        parts.append(
            TRUE if unknown else any_of(*(_reached(one, deny=deny) for one in rule.instances.any_of))
        )
    return parts[0] if len(parts) == 1 else all_of(*parts)


def _of_class(classes: Classes, *, deny: bool) -> Predicate:
    if deny and classes.unknown:
        return TRUE
    keys = {kind_key(system, code) for system, code in classes.kinds}
    if deny:
        keys |= {inner_kind_key(system, code) for system, code in classes.kinds}
        keys |= {inner_kind_key(RESOURCE_TYPES, name) for name in classes.types}
    return any_of(
        TypeIn(classes.types) if classes.types else FALSE,
        Overlaps("kinds", frozenset(keys)) if keys else FALSE,
    )


def _labelled(labels: Labels, *, deny: bool) -> Predicate:
    """A denial of a level closes it and all above; a permission opens it and all below, but not the unlabelled."""
    if deny and labels.unknown:
        return TRUE
    sensitive = labels.sensitivities | ({UNKNOWN} if deny and labels.sensitivities else set())
    parts: list[Predicate] = [Sensitive(frozenset(sensitive))] if sensitive else []
    if labels.levels:
        lowest, highest = min(labels.levels), max(labels.levels)
        parts.append(LevelBetween(lowest, _HIGHEST) if deny else LevelBetween(UNLABELLED + 1, highest))
    if deny:
        parts.append(_UNLABELLED)
    return any_of(*parts)


def _reached(instance: Instance, *, deny: bool) -> Predicate:
    named = (reference.split("/", 1) for reference in sorted(instance.itself))
    parts: list[Predicate] = [IdIn(resource_type, frozenset({id})) for resource_type, id in named]
    if instance.dependents:
        keys = frozenset(reference_key(reference) for reference in instance.dependents)
        parts.append(Overlaps("edges", keys))
    if instance.authors:
        parts.append(_written_by(instance.authors, deny=deny))
    return any_of(*parts)


def _written_by(authors: frozenset[str], *, deny: bool) -> Predicate:
    """By any of them; for a denial also whatever may be by one of them, having no name in common with them."""
    identifiers = {author for author in authors if "|" in author}
    references = authors - identifiers
    keys = {reference_key(one) for one in references} | {identifier_text_key(one) for one in identifiers}
    if not deny:
        return Overlaps("authors", frozenset(keys))
    keys.add(UNKNOWN_AUTHOR)
    if not identifiers:
        keys |= {lacking(kind_of_reference(one), "reference") for one in references}
    if not references:
        keys |= {lacking(kind_of_identifier(one), "identifier") for one in identifiers}
    organisations = (one for one in identifiers if kind_of_identifier(one) == "organisation")
    custodians = frozenset(one.rpartition("|")[2] for one in organisations)
    return any_of(
        Overlaps("authors", frozenset(keys)),
        Empty("authors"),
        CustodianIn(custodians) if custodians else FALSE,
    )
