"""The decision model, read aloud: slow, literal, three-valued, and sharing nothing with the code it checks.

Section numbers are those of the decision model in docs; every function is one sentence of it.
"""

from datetime import datetime

from app.consent.policy import Policy
from app.consent.provision import Actor, ActorKind, Directive, Effect, Instance, Labels, Period, Provision
from app.fhir.authors import UNKNOWN_AUTHOR
from app.fhir.facets import Facets, inner_kind_key, kind_key
from app.fhir.keys import key64
from app.fhir.names import identifier_key
from app.vocabulary import ODS_SYSTEM, Caller, PurposeOfUse

YES, NO, UNKNOWN = "yes", "no", "unknown"
DENY, PERMIT, CLOSED, SILENT = "deny", "permit", "closed", "silent"
PATIENT_SIDE = ("PATRQT", "FAMRQT", "PWATRNY")
PARENTS = {
    "ETREAT": "TREAT",
    "BTG": "ETREAT",
    "CAREMGT": "HOPERAT",
    "HLEGAL": "HOPERAT",
    "HSYSADMIN": "HOPERAT",
}
PARENTS |= {"FAMRQT": "PATRQT", "PWATRNY": "PATRQT", "CLINTRCH": "HRESCH"}
INEXPRESSIBLE = {"CLINTRCH": "HRESCH"}


def released(
    directives: list[Directive],
    caller: Caller,
    at: datetime,
    policy: Policy,
    actor_keys: frozenset[int],
    facets: Facets,
) -> bool:
    emergency = caller.emergency is not None and caller.purpose in ("ETREAT", "BTG")
    ordinary = ordinarily_released(directives, caller, at, policy, actor_keys, facets, emergency)
    if emergency:
        return ordinary or not (facets.sensitivity & policy.never)
    return ordinary


def ordinarily_released(
    directives: list[Directive],
    caller: Caller,
    at: datetime,
    policy: Policy,
    actor_keys: frozenset[int],
    facets: Facets,
    emergency: bool,
) -> bool:
    if caller.emergency is not None and not emergency:
        return False
    if caller.purpose == "BTG" and not emergency:
        return False
    if facets.confidentiality == 0 or "UNKNOWN" in facets.sensitivity:
        return False
    values = [value_of(one, caller, at, actor_keys, facets) for one in live(directives)]
    if DENY in values:
        return False
    if PERMIT in values:
        return True
    if CLOSED in values:
        return False
    default = policy.defaults.get(PurposeOfUse.TREAT if emergency else caller.purpose)
    if default is None or default.permit_up_to == 0:
        return False
    level = default.permit_up_to
    if any(role in default.restricted_roles for role in caller.roles):
        level = max(level, 5)
    return facets.confidentiality <= level and (
        default.types is None or facets.resource_type in default.types
    )


def live(directives: list[Directive]) -> list[Directive]:
    """2.5.1, a slot at a time."""
    found = []
    for slot in {one.slot for one in directives}:
        inside = [one for one in directives if one.slot == slot]
        newest = sorted(
            inside, key=lambda one: (one.recorded_at, one.server_time, one.consent_id, one.version)
        )[-1]
        versions = [one for one in directives if one.consent_id == newest.consent_id]
        current = max(versions, key=lambda one: one.version)
        if current.slot == slot and current.status == "active" and current.scope == "patient-privacy":
            found.append(current)
    return found


def value_of(directive: Directive, caller: Caller, at: datetime, keys: frozenset[int], facets: Facets) -> str:
    """2.4."""
    root = directive.rule
    if not effective(context(root, caller, at, keys), root):
        return SILENT
    matched = effective(data(root, facets), root)
    values = exceptions(root, matched, caller, at, keys, facets)
    if DENY in values:
        return DENY
    if PERMIT in values:
        return PERMIT
    if matched:
        return root.effect.value
    return CLOSED if root.effect is Effect.PERMIT else SILENT


def exceptions(
    rule: Provision, matched: bool, caller: Caller, at: datetime, keys: frozenset[int], facets: Facets
) -> list[str]:
    """2.4.2: the values of the children that are considered and count."""
    values = []
    for child in rule.exceptions:
        if child.effect is not rule.effect and not matched:
            continue
        if not effective(context(child, caller, at, keys), child) or not effective(
            data(child, facets), child
        ):
            continue
        below = exceptions(child, True, caller, at, keys, facets)
        values.append(DENY if DENY in below else PERMIT if PERMIT in below else child.effect.value)
    return values


def effective(answer: str, rule: Provision) -> bool:
    """2.3: unknown counts as yes for a deny rule and no for a permit rule."""
    return answer == YES or (answer == UNKNOWN and rule.effect is Effect.DENY)


def every(answers: list[str]) -> str:
    return NO if NO in answers else UNKNOWN if UNKNOWN in answers else YES


def some(answers: list[str]) -> str:
    return YES if YES in answers else UNKNOWN if UNKNOWN in answers else NO


def say(holds: bool) -> str:
    return YES if holds else NO


def context(rule: Provision, caller: Caller, at: datetime, keys: frozenset[int]) -> str:
    answers = []
    if rule.period is not None:
        start, end = rule.period.start, rule.period.end
        answers.append(say((start is None or at >= start) and (end is None or at < end)))
    if rule.actors is not None:
        actors = [actor_answer(one, caller, keys) for one in rule.actors.any_of]
        answers.append(some([*actors, UNKNOWN if rule.actors.unknown else NO]))
    if rule.purposes is not None:
        named = [purpose_answer(code, rule, caller) for code in rule.purposes.codes]
        answers.append(some([*named, UNKNOWN if rule.purposes.unknown else NO]))
    if rule.actions is not None:
        reading = {"access"} if rule.effect is Effect.PERMIT else {"access", "use", "disclose"}
        answers.append(
            some([say(bool(reading & rule.actions.codes)), UNKNOWN if rule.actions.unknown else NO])
        )
    return every(answers)


def actor_answer(actor: Actor, caller: Caller, keys: frozenset[int]) -> str:
    if keys & actor.keys:
        return YES
    if actor.kind is ActorKind.ORGANISATION:
        return NO if ODS_SYSTEM in actor.systems else UNKNOWN
    if actor.kind is ActorKind.PERSON:
        known = caller.practitioner.split("|")[0] in actor.systems
        return NO if caller.purpose in PATIENT_SIDE or (caller.practitioner and known) else UNKNOWN
    if actor.kind is ActorKind.ROLE:
        return NO if caller.roles else UNKNOWN
    if actor.kind is ActorKind.RELATED:
        return UNKNOWN if caller.purpose in PATIENT_SIDE else NO
    return UNKNOWN


def purpose_answer(code: str, rule: Provision, caller: Caller) -> str:
    asked = {caller.purpose.value}
    if caller.purpose == "ETREAT" or (caller.purpose == "BTG" and caller.emergency is not None):
        asked.add("TREAT")
    if code in asked:
        return YES
    if rule.effect is Effect.PERMIT:
        return NO
    meant = INEXPRESSIBLE.get(code, code)
    above = {one: one for one in asked}
    for one in asked:
        while one in PARENTS:
            one = PARENTS[one]
            above[one] = one
    return say(meant in above)


def data(rule: Provision, facets: Facets) -> str:
    answers = []
    deny = rule.effect is Effect.DENY
    if rule.classes is not None:
        named = [say(facets.resource_type in rule.classes.types)]
        named += [say(kind_key(*kind) in facets.kinds) for kind in rule.classes.kinds]
        inside = [
            *rule.classes.kinds,
            *(("http://hl7.org/fhir/resource-types", one) for one in rule.classes.types),
        ]
        if deny:
            named += [say(inner_kind_key(*kind) in facets.kinds) for kind in inside]
        answers.append(some([*named, UNKNOWN if rule.classes.unknown else NO]))
    if rule.labels is not None:
        answers.append(label_answer(rule.labels, rule.effect, facets))
    if rule.codes is not None:
        found = any(key in facets.codes for key in rule.codes.keys)
        answers.append(some([say(found), UNKNOWN if rule.codes.unknown else NO]))
    if rule.data_period is not None:
        answers.append(period_answer(rule.data_period, rule.effect, facets))
    if rule.instances is not None:
        reached = [instance_answer(one, rule, facets) for one in rule.instances.any_of]
        answers.append(some([*reached, UNKNOWN if rule.instances.unknown else NO]))
    return every(answers)


def label_answer(labels: Labels, effect: Effect, facets: Facets) -> str:
    level = facets.confidentiality
    answers = [UNKNOWN] if labels.unknown or level == 0 else []
    for code in labels.sensitivities:
        answers.append(say(code in facets.sensitivity))
        if "UNKNOWN" in facets.sensitivity:
            answers.append(UNKNOWN)
    for named in labels.levels:
        if level != 0:
            answers.append(say(level >= named if effect is Effect.DENY else level <= named))
    return some(answers)


def period_answer(period: Period, effect: Effect, facets: Facets) -> str:
    if facets.relevant_from is None and facets.relevant_until is None:
        return UNKNOWN
    early, late = -float("inf"), float("inf")
    first = facets.relevant_from.timestamp() if facets.relevant_from else early
    until = facets.relevant_until.timestamp() if facets.relevant_until else late
    start = period.start.timestamp() if period.start else early
    end = period.end.timestamp() if period.end else late
    if effect is Effect.DENY:
        return say(first < end and start < until)
    return say(start <= first and until <= end)


def instance_answer(instance: Instance, rule: Provision, facets: Facets) -> str:
    answers = [say(f"{facets.resource_type}/{facets.id}" in instance.itself)]
    answers += [say(key64("ref", one) in facets.edges) for one in instance.dependents]
    if instance.authors:
        answers.append(author_answer(instance, rule, facets))
    return some(answers)


def author_answer(instance: Instance, rule: Provision, facets: Facets) -> str:
    by_identifier = [one.split("|") for one in instance.authors if "|" in one]
    by_reference = [one for one in instance.authors if "|" not in one]
    answers = [say(identifier_key(*one) in facets.authors) for one in by_identifier]
    answers += [say(key64("ref", one) in facets.authors) for one in by_reference]
    if rule.effect is Effect.DENY:
        answers += [say(facets.custodian == value) for system, value in by_identifier if system == ODS_SYSTEM]
    unknown = not facets.authors or UNKNOWN_AUTHOR in facets.authors
    for one in by_reference if not by_identifier else ():
        kind = "organisation" if one.startswith("Organization/") else "person"
        unknown |= key64("author", kind, "no reference") in facets.authors
    for system, _ in by_identifier if not by_reference else ():
        kind = "organisation" if system == ODS_SYSTEM else "person"
        unknown |= key64("author", kind, "no identifier") in facets.authors
    return some([*answers, UNKNOWN if unknown else NO])
