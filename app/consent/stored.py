"""A directive as it is kept: canonical JSON, a lasting format (``directive-1``)."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from app.consent.provision import (
    Actions,
    Actor,
    ActorKind,
    Actors,
    Classes,
    Codes,
    Directive,
    Effect,
    Instance,
    Instances,
    Labels,
    Period,
    Provision,
    Purposes,
)

FORMAT: Final = "directive-1"


def to_json(directive: Directive) -> str:
    """The same text for the same directive, for ever: names in order, no spaces, instants in UTC."""
    document = {
        "format": FORMAT,
        "consent": directive.consent_id,
        "version": directive.version,
        "status": directive.status,
        "scope": directive.scope,
        "slot": directive.slot,
        "recorded_at": _instant(directive.recorded_at),
        "server_time": _instant(directive.server_time),
        "rule": _rule(directive.rule),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def from_json(text: str) -> Directive:
    """Raises ValueError for anything that ``to_json`` did not write."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError("the directive is kept in a format of another release")
        return Directive(
            consent_id=document["consent"],
            version=document["version"],
            status=document["status"],
            scope=document["scope"],
            slot=document["slot"],
            recorded_at=datetime.fromisoformat(document["recorded_at"]),
            server_time=datetime.fromisoformat(document["server_time"]),
            rule=_read_rule(document["rule"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not a directive") from error


def _rule(rule: Provision) -> dict[str, Any]:
    elements = {
        "effect": rule.effect.value,
        "path": rule.path,
        "period": _period(rule.period),
        "actors": rule.actors
        and {"any_of": [_actor(one) for one in rule.actors.any_of], **_doubt(rule.actors)},
        "purposes": rule.purposes and {"codes": sorted(rule.purposes.codes), **_doubt(rule.purposes)},
        "actions": rule.actions and {"codes": sorted(rule.actions.codes), **_doubt(rule.actions)},
        "labels": rule.labels and _labels(rule.labels),
        "classes": rule.classes and _classes(rule.classes),
        "codes": rule.codes and {"keys": sorted(rule.codes.keys), **_doubt(rule.codes)},
        "data_period": _period(rule.data_period),
        "instances": rule.instances and _instances(rule.instances),
        "exceptions": [_rule(one) for one in rule.exceptions] or None,
    }
    return {name: value for name, value in elements.items() if value is not None}


def _read_rule(kept: dict[str, Any]) -> Provision:
    return Provision(
        effect=Effect(kept["effect"]),
        path=kept["path"],
        period=_read_period(kept.get("period")),
        actors=_read_actors(kept.get("actors")),
        purposes=(one := kept.get("purposes")) and Purposes(frozenset(one["codes"]), one["unknown"]),
        actions=(one := kept.get("actions")) and Actions(frozenset(one["codes"]), one["unknown"]),
        labels=_read_labels(kept.get("labels")),
        classes=_read_classes(kept.get("classes")),
        codes=(one := kept.get("codes")) and Codes(frozenset(one["keys"]), one["unknown"]),
        data_period=_read_period(kept.get("data_period")),
        instances=_read_instances(kept.get("instances")),
        exceptions=tuple(_read_rule(one) for one in kept.get("exceptions", ())),
    )


def _doubt(element: Actors | Purposes | Actions | Labels | Classes | Codes | Instances) -> dict[str, bool]:
    return {"unknown": element.unknown}


def _actor(actor: Actor) -> dict[str, Any]:
    return {"kind": actor.kind.value, "keys": sorted(actor.keys), "systems": sorted(actor.systems)}


def _read_actors(kept: dict[str, Any] | None) -> Actors | None:
    if kept is None:
        return None
    actors = (
        Actor(ActorKind(one["kind"]), frozenset(one["keys"]), frozenset(one["systems"]))
        for one in kept["any_of"]
    )
    return Actors(tuple(actors), kept["unknown"])


def _labels(labels: Labels) -> dict[str, Any]:
    return {"levels": sorted(labels.levels), "sensitivities": sorted(labels.sensitivities), **_doubt(labels)}


def _read_labels(kept: dict[str, Any] | None) -> Labels | None:
    if kept is None:
        return None
    return Labels(frozenset(kept["levels"]), frozenset(kept["sensitivities"]), kept["unknown"])


def _classes(classes: Classes) -> dict[str, Any]:
    kinds = [list(kind) for kind in sorted(classes.kinds)]
    return {"types": sorted(classes.types), "kinds": kinds, **_doubt(classes)}


def _read_classes(kept: dict[str, Any] | None) -> Classes | None:
    if kept is None:
        return None
    kinds = frozenset((system, code) for system, code in kept["kinds"])
    return Classes(frozenset(kept["types"]), kinds, kept["unknown"])


def _instances(instances: Instances) -> dict[str, Any]:
    return {"any_of": [_instance(one) for one in instances.any_of], **_doubt(instances)}


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "itself": sorted(instance.itself),
        "dependents": sorted(instance.dependents),
        "authors": sorted(instance.authors),
    }


def _read_instances(kept: dict[str, Any] | None) -> Instances | None:
    if kept is None:
        return None
    return Instances(tuple(_read_instance(one) for one in kept["any_of"]), kept["unknown"])


def _read_instance(kept: dict[str, Iterable[str]]) -> Instance:
    return Instance(frozenset(kept["itself"]), frozenset(kept["dependents"]), frozenset(kept["authors"]))


def _period(period: Period | None) -> list[str | None] | None:
    if period is None:
        return None
    return [None if bound is None else _instant(bound) for bound in (period.start, period.end)]


def _read_period(kept: list[str | None] | None) -> Period | None:
    if kept is None:
        return None
    start, end = (None if bound is None else datetime.fromisoformat(bound) for bound in kept)
    return Period(start, end)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
