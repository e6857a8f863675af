"""Scopes: the grammar of SMART 2.2 to the letter, and who may do what to which type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fhir.definitions import RESOURCE_TYPES
from app.smart.scopes import LETTERS, NAMED_ONLY, Scope, covers, parse_scope, permits, suffices

TYPES = st.sampled_from([*sorted(RESOURCE_TYPES), "*"])
VALUES = st.text(alphabet="abcXYZ019|,/:._-%", min_size=1, max_size=12)
SCOPES = st.builds(
    Scope,
    context=st.sampled_from(["patient", "user", "system"]),
    resource_type=TYPES,
    letters=st.sets(st.sampled_from(LETTERS), min_size=1).map(frozenset),
    filters=st.lists(
        st.tuples(st.sampled_from(["category", "_id", "code", "combo-code"]), VALUES), max_size=3
    ).map(tuple),
)


def scope(text: str) -> Scope:
    parsed = parse_scope(text)
    assert parsed is not None
    return parsed


@given(SCOPES)
def test_what_is_rendered_parses_to_the_same(given_scope: Scope) -> None:
    assert parse_scope(given_scope.render()) == given_scope


@given(st.text())
def test_arbitrary_text_is_a_scope_or_none(text: str) -> None:
    assert parse_scope(text) is None


@given(st.text(alphabet="systempatiuer/*.cruds?&=Obsvation ", max_size=60))
def test_text_that_resembles_a_scope_is_never_trimmed_to_one(text: str) -> None:
    parsed = parse_scope(text)
    assert parsed is None or parsed.render() == text or text.endswith((".read", ".write", ".*"))


@pytest.mark.parametrize(
    "text",
    [
        "patient/Observation.read-only",
        "patient/Observation.rsXYZ",
        "system/Observation.sr",
        "system/Observation.rrs",
        "system/Observation.",
        "system/Observation",
        "system/Observation.x",
        "system/observation.rs",
        "system/Observations.rs",
        "system/Resource.rs",
        "system/Observation.rs ",
        " system/Observation.rs",
        "system/Observation.rs\n",
        "system//Observation.rs",
        "System/Observation.rs",
        "system/Observation.r*",
        "system/Observation.**",
        "system/Observation.readwrite",
        "system/Observation.rs?",
        "system/Observation.rs?active",
        "system/Observation.rs?active=",
        "system/Observation.rs?=x",
        "system/Observation.rs?code:not=x",
        "system/Observation.rs?code:in=x",
        "system/Observation.rs?subject.name=x",
        "system/Observation.rs?_has=x",
        "system/Observation.rs?_has:Patient:x=y",
        "system/Observation.rs?_include=x",
        "system/Observation.rs?_revinclude=x",
        "system/Observation.rs?_filter=x",
        "system/Observation.rs?a=b&",
        "system/Observation.rs?a=b&&c=d",
        "system/Observation.rs?a=b?c=d e",
        "launch",
        "openid",
        "fhirUser",
        "offline_access",
        "",
        "*",
        "system/*.*?" + "a" * 2000,
    ],
)
def test_what_is_not_wholly_a_scope_is_none(text: str) -> None:
    assert parse_scope(text) is None


@pytest.mark.parametrize(("first", "second"), [("read", "rs"), ("write", "cud"), ("*", "cruds")])
def test_version_1_means_what_version_2_says(first: str, second: str) -> None:
    assert scope(f"system/Patient.{first}") == scope(f"system/Patient.{second}")


def test_filters_keep_their_order_and_text() -> None:
    parsed = scope("patient/Observation.rs?category=http://x|a,b&_id=1")
    assert parsed.filters == (("category", "http://x|a,b"), ("_id", "1"))


@pytest.mark.parametrize("letter", LETTERS)
def test_a_letter_permits_itself_and_no_other(letter: str) -> None:
    granted = (f"system/Observation.{letter}",)
    assert [other for other in LETTERS if permits(granted, "Observation", other)] == [letter]
    assert not permits(granted, "Patient", letter)


def test_nothing_permits_nothing() -> None:
    assert not permits((), "Observation", "r")
    assert not permits(("nonsense", "", "openid"), "Observation", "r")


@pytest.mark.parametrize("granted", ["patient/Observation.rs", "user/Observation.rs", "patient/*.cruds"])
def test_a_scope_that_needs_a_patient_or_user_permits_nothing_here(granted: str) -> None:
    assert not permits((granted,), "Observation", "r")


def test_a_scope_with_a_filter_permits_nothing_while_filters_are_not_applied() -> None:
    assert not permits(("system/Observation.rs?category=laboratory",), "Observation", "s")


@pytest.mark.parametrize("named", sorted(NAMED_ONLY))
def test_the_wildcard_does_not_include_what_must_be_named(named: str) -> None:
    assert not permits(("system/*.cruds",), named, "r")
    assert permits(("system/*.cruds", f"system/{named}.r"), named, "r")


@given(TYPES.filter(lambda name: name not in NAMED_ONLY and name != "*"), st.sampled_from(LETTERS))
def test_the_wildcard_includes_every_other_type(name: str, letter: str) -> None:
    assert permits(("system/*.cruds",), name, letter)


@given(st.sampled_from(sorted(RESOURCE_TYPES)), st.sampled_from(LETTERS))
def test_what_is_said_to_suffice_suffices(name: str, letter: str) -> None:
    assert permits((suffices(name, letter),), name, letter)


def test_reading_and_searching_are_asked_for_together() -> None:
    assert suffices("Observation", "r") == suffices("Observation", "s") == "system/Observation.rs"
    assert suffices("Observation", "c") == "system/Observation.c"


@pytest.mark.parametrize(
    ("registered", "asked", "covered"),
    [
        (["system/*.rs"], "system/Observation.rs", True),
        (["system/*.rs"], "system/*.read", True),
        (["system/*.rs"], "system/Observation.cruds", False),
        (["system/*.rs"], "system/AuditEvent.rs", False),
        (["system/*.rs", "system/AuditEvent.rs"], "system/AuditEvent.rs", True),
        (["system/Observation.r", "system/Observation.s"], "system/Observation.rs", True),
        (["system/Observation.rs", "system/Condition.rs"], "system/*.rs", False),
        (["system/Observation.rs"], "user/Observation.rs", False),
        (["system/Observation.rs?code=x"], "system/Observation.rs", False),
        ([], "system/Observation.r", False),
    ],
)
def test_a_grant_lies_inside_what_is_registered(registered: list[str], asked: str, covered: bool) -> None:
    assert covers([scope(text) for text in registered], scope(asked)) is covered


@given(
    st.lists(SCOPES, max_size=3), SCOPES, st.sampled_from(sorted(RESOURCE_TYPES)), st.sampled_from(LETTERS)
)
def test_what_is_covered_permits_no_more_than_what_covers_it(
    registered: list[Scope], asked: Scope, name: str, letter: str
) -> None:
    texts = tuple(each.render() for each in registered)
    if covers(registered, asked) and permits((asked.render(),), name, letter):
        assert permits(texts, name, letter)
