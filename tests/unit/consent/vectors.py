"""Reads decision vectors: cases as data that any other engine can run (tests/vectors/*.json)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.consent.decision import Decision, actor_keys_of, decide
from app.consent.directive import Directive, normalise
from app.consent.labels import label
from app.consent.policy import Default, Policy
from app.fhir.facets import Facets, facets_of
from app.fhir.names import reference_key
from app.fhir.sensitivity import LEVELS
from app.vocabulary import Caller, EmergencyReason, PurposeOfUse, ods_code

VECTORS = Path(__file__).parents[2] / "vectors"
BASE = "https://node.example/fhir"
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEPT = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Case:
    """One question with its answer; ``world`` is the file it stands in."""

    world: Mapping[str, Any]
    given: Mapping[str, Any]

    @property
    def decision(self) -> Decision:
        caller = caller_of(self.world["callers"][self.given["caller"]])
        keys = actor_keys_of(caller) | {reference_key(group) for group in self.given.get("member_of", ())}
        consents = [self.world["consents"][name] for name in self.given["consents"]]
        directives = [directive_of(one, self.world["resolves"]) for one in consents]
        policy = policy_of(self.given.get("policy", self.world["policy"]))
        return decide(directives, caller, self.at, policy, actor_keys=keys, epoch=1)

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.given["at"]) if "at" in self.given else AT

    @property
    def next_change_at(self) -> datetime | None:
        text = self.given.get("next_change_at")
        return datetime.fromisoformat(text) if text else None

    @property
    def released(self) -> list[str]:
        return sorted(self.given["released"])


def cases(name: str) -> Iterator[tuple[str, Case]]:
    world = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    for given in world["cases"]:
        yield given["title"], Case(world, given)


def facets_in(world: Mapping[str, Any]) -> dict[str, Facets]:
    """The facets of every resource of a file, labelled as at their write."""
    found = {}
    for name, given in world["resources"].items():
        resource = {key: value for key, value in given.items() if key != "custodian"} | {"id": name}
        facets = facets_of(resource, custodian=ods_code(given.get("custodian", "RX1")), base_url=BASE)
        found[name], _ = label(resource, facets)
    return found


def directive_of(consent: Mapping[str, Any], resolves: Mapping[str, list[str]]) -> Directive:
    meta = consent.get("meta", {})
    kept = datetime.fromisoformat(meta["lastUpdated"]) if "lastUpdated" in meta else KEPT
    version = int(meta.get("versionId", "1"))
    return normalise(consent, version=version, server_time=kept, base_url=BASE, resolve=resolves)


def caller_of(given: Mapping[str, Any]) -> Caller:
    reason = given.get("emergency")
    return Caller(
        subject="client",
        client_id="client",
        organisation=ods_code(given["organisation"]),
        purpose=PurposeOfUse(given["purpose"]),
        scopes=("system/*.rs",),
        token_id="t",
        expires_at=AT,
        roles=tuple(given.get("roles", ())),
        practitioner=given.get("practitioner", ""),
        emergency=EmergencyReason(**reason) if reason else None,
    )


def policy_of(given: Mapping[str, Any]) -> Policy:
    defaults = {
        PurposeOfUse(name): Default(
            LEVELS.get(rule["permit"], 0),
            frozenset(rule.get("restricted_roles", ())),
            frozenset(rule["types"]) if "types" in rule else None,
        )
        for name, rule in given.items()
        if name != "never"
    }
    return Policy("https://policy.example/vectors", "1", defaults, frozenset(given.get("never", ())))
