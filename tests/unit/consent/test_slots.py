"""Which version of which Consent counts (one slot, one live directive)."""

from dataclasses import replace
from datetime import UTC, datetime

from app.consent.decision import live
from app.consent.provision import Directive, Effect, Provision


def directive(consent_id: str, slot: str, year: int, version: int = 1) -> Directive:
    made = datetime(year, 1, 1, tzinfo=UTC)
    rule = Provision(Effect.DENY, "Consent.provision")
    return Directive(consent_id, version, "active", "patient-privacy", slot, made, made, rule)


OLD, NEW = directive("old", "s", 2024), directive("new", "s", 2025)


def test_the_newest_of_a_slot_counts() -> None:
    assert live([OLD, NEW]) == live([NEW, OLD]) == (NEW,)


def test_a_revoked_consent_ends_its_slot() -> None:
    assert live([OLD, NEW, replace(NEW, version=2, status="inactive")]) == ()


def test_a_consent_that_moves_to_another_slot_ends_the_one_it_leaves() -> None:
    moved = replace(NEW, version=2, slot="t")
    assert live([OLD, NEW, moved]) == (moved,)


def test_a_consent_that_moves_to_a_slot_held_by_a_newer_one_counts_in_neither() -> None:
    holder = directive("holder", "t", 2026)
    assert live([OLD, NEW, replace(NEW, version=2, slot="t"), holder]) == (holder,)


def test_a_consent_that_is_edited_keeps_its_place_even_under_an_older_date() -> None:
    edited = replace(NEW, version=2, recorded_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert live([OLD, NEW, edited]) == (edited,)


def test_an_older_consent_that_is_revoked_leaves_the_newer_one_alone() -> None:
    assert live([OLD, NEW, replace(OLD, version=2, status="inactive")]) == (NEW,)
