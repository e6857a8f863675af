"""A search is parsed exactly, or refused by name; nothing is silently left out (R4 search)."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import CandourError, MalformedSearch, TooCostly, UnknownType, UnsupportedSearch
from app.fhir.compartments import in_patient_compartment
from app.fhir.criteria import (
    CompositeCriterion,
    MissingCriterion,
    NotCriterion,
    escape,
    split,
    unescape,
)
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.keys import below_keys, key64, present_key
from app.fhir.parameters import parameters_of
from app.fhir.query import (
    MOST_COUNT,
    Criterion,
    DateAlternative,
    DateCriterion,
    IdCriterion,
    Ignored,
    LastUpdatedCriterion,
    ReferenceCriterion,
    SearchQuery,
    SortKey,
    StringCriterion,
    TokenCriterion,
    UriCriterion,
    is_supported,
    parse_search,
)

BASE = "https://node.example/fhir"


def asked(resource_type: str, *pairs: tuple[str, str], strict: bool = True) -> SearchQuery:
    return parse_search(resource_type, pairs, strict=strict, base_url=BASE)


def criterion(resource_type: str, name: str, value: str) -> Criterion:
    [only] = asked(resource_type, (name, value)).criteria
    return only


# What each kind of parameter means.


@pytest.mark.parametrize(
    ("value", "alternative", "key"),
    [
        ("c", (None, "c"), ("code", "c", "c")),
        ("s|c", ("s", "c"), ("code", "s|c", "s", "c")),
        ("|c", ("", "c"), ("code", "|c", "c")),
        ("s|", ("s", None), ("code", "s|", "s")),
        (r"a\|b", (None, "a|b"), ("code", "c", "a|b")),
        (r"s\|t|a\,b", ("s|t", "a,b"), ("code", "s|c", "s|t", "a,b")),
        ("Case", (None, "Case"), ("code", "c", "Case")),
    ],
)
def test_a_token_is_read_in_its_four_forms(
    value: str, alternative: tuple[str | None, str | None], key: tuple[str, ...]
) -> None:
    assert criterion("Observation", "code", value) == TokenCriterion("code", (alternative,), (key64(*key),))


def test_commas_are_or_and_repetition_is_and() -> None:
    query = asked("Condition", ("code", "59621000,10509002"), ("code", "x"))
    assert [one.alternatives for one in query.criteria if isinstance(one, TokenCriterion)] == [
        ((None, "59621000"), (None, "10509002")),
        ((None, "x"),),
    ]
    assert query.used_pairs == (("code", "59621000,10509002"), ("code", "x"))


@pytest.mark.parametrize(
    ("name", "value", "spelt"),
    [
        ("subject", "Patient/1", ["Patient/1"]),
        ("subject", f"{BASE}/Patient/1", ["Patient/1"]),
        ("subject", "Patient/1/_history/2", ["Patient/1/_history/2"]),
        ("subject", "1", ["Group/1", "Device/1", "Patient/1", "Location/1"]),
        ("subject:Patient", "1", ["Patient/1"]),
        ("subject:Patient", "Patient/1", ["Patient/1"]),
        ("subject:Patient", "Device/1", []),
        ("subject:Account", "1", []),
        ("subject", "http://other/fhir/Patient/1", ["http://other/fhir/Patient/1"]),
        ("subject", "urn:uuid:1", ["urn:uuid:1"]),
        ("subject", "patient/1", ["patient/1"]),
        ("patient", "1", ["Patient/1"]),
        ("subject", "Patient/1,Patient/2", ["Patient/1", "Patient/2"]),
    ],
)
def test_a_reference_is_looked_up_as_the_index_spells_it(name: str, value: str, spelt: list[str]) -> None:
    found = criterion("Observation", name, value)
    code = name.partition(":")[0]
    assert isinstance(found, ReferenceCriterion)
    assert found.keys == tuple(key64(code, "r", one) for one in spelt)


def test_a_reference_by_identifier_is_a_token_of_its_own() -> None:
    assert criterion("Observation", "subject:identifier", "s|9") == TokenCriterion(
        "subject:identifier", (("s", "9"),), (key64("subject:identifier", "s|c", "s", "9"),)
    )


def test_a_uri_is_compared_exactly() -> None:
    assert criterion("ValueSet", "url", "http://x|1") == UriCriterion(
        "url", ("http://x|1",), (key64("url", "u", "http://x|1"),)
    )


def test_a_date_is_a_prefix_and_a_range() -> None:
    year = (datetime(1980, 1, 1, tzinfo=UTC), datetime(1981, 1, 1, tzinfo=UTC))
    assert criterion("Observation", "date", "1980,sa1980") == DateCriterion(
        "date", (DateAlternative("eq", *year), DateAlternative("sa", *year))
    )
    assert criterion("Observation", "_lastUpdated", "gt1980") == LastUpdatedCriterion(
        (DateAlternative("gt", *year),)
    )


def test_a_string_is_folded_unless_it_is_exact() -> None:
    assert criterion("Patient", "name", r"Müller,Richard\,M") == StringCriterion(
        "name", "", ("muller", "richard,m"), ("muller", "richard,m")
    )
    assert criterion("Patient", "family:exact", "Müller") == StringCriterion(
        "family", "exact", ("Müller",), ("muller",)
    )
    assert criterion("Patient", "given:contains", "ÉL") == StringCriterion(
        "given", "contains", ("el",), ("el",)
    )


def test_ids_are_or() -> None:
    assert criterion("Patient", "_id", "a,b") == IdCriterion(("a", "b"))


@pytest.mark.parametrize("name", ["_tag", "_security", "_profile", "_source"])
def test_metadata_can_be_asked_of_every_type(name: str) -> None:
    for resource_type in ("Patient", "Bundle", "Binary"):
        assert len(asked(resource_type, (name, "x")).criteria) == 1


def test_every_parameter_of_the_supported_types_is_answered() -> None:
    values = {
        "token": "a|b",
        "reference": "Patient/1",
        "date": "2020",
        "string": "x",
        "uri": "urn:x",
        "number": "ge5",
        "quantity": "5|urn:x|y",
        "special": "1|2|3|km",
    }
    for resource_type in RESOURCE_TYPES:
        for one in parameters_of(resource_type).values():
            if is_supported(one):
                kinds = [part.type for part in one.components] or [one.type]
                value = "$".join(values[kind] for kind in kinds)
                assert len(asked(resource_type, (one.code, value)).criteria) == 1, one.code
            else:
                with pytest.raises(UnsupportedSearch, match=one.code):
                    asked(resource_type, (one.code, "1"))


def test_what_is_missing_is_told_by_a_key_of_its_own() -> None:
    found = criterion("Patient", "birthdate:missing", "true")
    assert found == MissingCriterion("birthdate", True, present_key("birthdate"))


def test_not_is_the_negation_of_the_token() -> None:
    assert criterion("Observation", "code:not", "s|c") == NotCriterion(
        TokenCriterion("code", (("s", "c"),), (key64("code", "s|c", "s", "c"),))
    )


def test_text_is_a_string_of_what_people_read() -> None:
    assert criterion("Observation", "code:text", "Häm") == StringCriterion(
        "code:text", "", ("ham",), ("ham",)
    )


def test_an_identifier_of_a_type_needs_all_three() -> None:
    found = criterion("Patient", "identifier:of-type", "http://t|MR|446053")
    assert isinstance(found, TokenCriterion)
    assert found.keys == (key64("identifier", "of-type", "http://t", "MR", "446053"),)


def test_a_uri_is_below_and_above_others_by_whole_segments() -> None:
    below = criterion("ValueSet", "url:below", "http://x/fhir/")
    assert isinstance(below, UriCriterion)
    assert set(below.keys) <= set(below_keys("url", "http://x/fhir/ValueSet/1"))
    assert not set(below.keys) & set(below_keys("url", "http://x/fhirs/1"))
    above = criterion("ValueSet", "url:above", "http://x/fhir/ValueSet/1")
    assert isinstance(above, UriCriterion)
    assert (
        key64("url", "u", "http://x/fhir") in above.keys and key64("url", "u", "http://x/f") not in above.keys
    )


def test_a_composite_asks_the_whole_where_nothing_repeats_and_elements_where_it_does() -> None:
    whole = criterion("Observation", "code-value-quantity", "l|a$gt5")
    assert isinstance(whole, CompositeCriterion)
    [(code, quantity)] = whole.in_whole
    assert (code, quantity) == (
        criterion("Observation", "code", "l|a"),
        criterion("Observation", "value-quantity", "gt5"),
    )
    assert whole.in_elements == ()
    element = criterion("Observation", "component-code-value-quantity", "l|a$gt5")
    assert isinstance(element, CompositeCriterion)
    assert element.in_whole == () and len(element.in_elements) == 1
    either = criterion("Observation", "combo-code-value-quantity", "l|a$gt5,l|b$lt3")
    assert isinstance(either, CompositeCriterion)
    assert len(either.in_whole) == len(either.in_elements) == 2


# Control parameters and links.


def test_count_sort_and_presentation_are_no_criteria() -> None:
    query = asked(
        "Observation", ("_count", "7"), ("_sort", "-date"), ("_format", "json"), ("_pretty", "true")
    )
    assert (query.count, query.sort, query.criteria) == (7, (SortKey("date", True),), ())
    assert len(query.used_pairs) == 4
    assert query.pairs_without_patient == ()


def test_a_page_is_never_larger_than_the_limit_and_the_self_link_says_so() -> None:
    query = asked("Patient", ("_count", "999999"))
    assert query.count == MOST_COUNT
    assert query.self_link(BASE) == f"{BASE}/Patient?_count={MOST_COUNT}"
    assert asked("Patient", ("_count", "0")).count == 0
    assert asked("Patient").count == 20


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "٣", "9999999999", " 5"])
def test_a_count_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(MalformedSearch, match="_count"):
        asked("Patient", ("_count", value), strict=False)


@pytest.mark.parametrize(
    "value", ["nope", "date,nope", "birthdate", "--date", "-", "code-value-quantity", "_text", "_count"]
)
def test_a_sort_key_that_is_no_parameter_with_an_order_is_named(value: str) -> None:
    query = asked("Observation", ("_sort", value), strict=False)
    assert query.sort == ()
    assert [one.name for one in query.ignored] == ["_sort"]
    assert query.used_pairs == ()
    with pytest.raises(UnsupportedSearch, match="_sort"):
        asked("Observation", ("_sort", value))


def test_a_control_parameter_cannot_be_given_twice() -> None:
    with pytest.raises(MalformedSearch, match="_count"):
        asked("Patient", ("_count", "1"), ("_count", "2"), strict=False)


def test_the_self_link_means_the_same_question() -> None:
    pairs = (
        ("name", r"O\,Brien é+ &"),
        ("code", "http://loinc.org|1-2,x"),
        ("date", "gt2020-01-01T10:00:00+01:00"),
    )
    query = asked("Observation", *pairs[1:])
    link = urlsplit(query.self_link(BASE))
    assert f"{link.scheme}://{link.netloc}{link.path}" == f"{BASE}/Observation"
    assert "|" not in link.query
    assert asked("Observation", *parse_qsl(link.query)) == query
    named = asked("Patient", pairs[0])
    assert parse_qsl(urlsplit(named.self_link(BASE)).query) == [pairs[0]]


def test_a_saved_query_is_restored_as_it_was() -> None:
    query = parse_search(
        "Observation",
        [("patient", "1"), ("code", "x"), ("foo", "y"), ("_sort", "date"), ("_format", "json")],
        strict=False,
        base_url=BASE,
        default_count=3,
    )
    assert query.ignored
    assert SearchQuery.restore(json.loads(json.dumps(query.saved()))) == query


# Whose record.


@pytest.mark.parametrize(
    ("resource_type", "pairs", "scope"),
    [
        ("Observation", [("patient", "1")], "1"),
        ("Observation", [("patient", "Patient/1")], "1"),
        ("Observation", [("patient", f"{BASE}/Patient/1")], "1"),
        ("Observation", [("subject", "Patient/1")], "1"),
        ("Observation", [("subject:Patient", "1")], "1"),
        ("Observation", [("patient", "1"), ("subject", "Patient/1")], "1"),
        ("DeviceUseStatement", [("patient", "1")], "1"),
        ("Coverage", [("beneficiary", "1")], "1"),
        ("Appointment", [("patient", "1"), ("actor", "Location/4")], "1"),
        ("AdverseEvent", [("subject", "Patient/1")], "1"),
        ("Schedule", [("actor", "Patient/1")], "1"),
        ("Patient", [("link", "Patient/1")], None),
        ("Observation", [("subject", "1")], None),
        ("Observation", [("subject", "Patient/1,Patient/2")], None),
        ("Observation", [("patient", "1"), ("subject", "Patient/2")], None),
        ("Observation", [("patient", "1"), ("subject", "2")], None),
        ("Observation", [("subject", "Patient/1,Device/2")], None),
        ("Observation", [("subject", "Patient/1/_history/2")], None),
        ("Observation", [("subject", "http://other/fhir/Patient/1")], None),
        ("Observation", [("subject:Device", "Patient/1")], None),
        ("Observation", [("subject:identifier", "s|1")], None),
        ("Observation", [("performer", "Patient/1")], None),
        ("Observation", [("focus", "Patient/1")], None),
        ("Task", [("patient", "1")], None),
        ("Patient", [("_id", "1")], None),
        ("Observation", [], None),
    ],
)
def test_a_query_is_bound_to_the_one_patient_that_it_names(
    resource_type: str, pairs: list[tuple[str, str]], scope: str | None
) -> None:
    query = asked(resource_type, *pairs)
    assert query.patient_scope == scope
    assert bool(query.scope_criteria) is (scope is not None)
    left = [pair for pair in pairs if pair not in query.pairs_without_patient]
    assert len(left) == len(query.scope_criteria)


def test_every_type_of_the_patient_compartment_but_patient_itself_can_be_asked_for_one_patient() -> None:
    for resource_type in filter(in_patient_compartment, RESOURCE_TYPES - {"Patient"}):
        code = {"Group": "member", "Schedule": "actor"}.get(
            resource_type, "patient" if "patient" in parameters_of(resource_type) else "subject"
        )
        assert asked(resource_type, (code, "Patient/1")).patient_scope == "1", resource_type


def test_a_criterion_is_widened_to_the_persons_other_patients() -> None:
    query = asked("Observation", ("patient", "1"), ("code", "x"), ("_count", "5"))
    [scoping] = query.scope_criteria
    assert isinstance(scoping, ReferenceCriterion)
    assert scoping in query.criteria
    assert scoping.widened(["1", "7"]) == replace(
        scoping,
        keys=(key64("patient", "r", "Patient/1"), key64("patient", "r", "Patient/7")),
        names_the_patient=True,
    )
    assert query.pairs_without_patient == (("code", "x"),)


# Refusals.


@pytest.mark.parametrize(
    ("resource_type", "name"),
    [
        ("Patient", "foo"),
        ("Patient", "Name"),
        ("Patient", "name:unknown"),
        ("Patient", "name:"),
        ("Patient", "phonetic:exact"),
        ("Observation", "subject.nope"),
        ("Observation", "code.text"),
        ("Observation", "subject:Practitioner.name"),
        ("Observation", "subject:Nothing.name"),
        ("Observation", "encounter.subject.nope"),
        ("Patient", "_has:Observation:patient:nope"),
        ("Patient", "_has:Observation:performer-nope:code"),
        ("Location", "_has:Observation:patient:code"),
        ("Location", "near:exact-nope"),
        ("Patient", "_text:exact"),
        ("Binary", "_text"),
        ("Patient", "_query"),
        ("Patient", "_id:in"),
        ("Patient", "_type"),
        ("Patient", "_count:exact"),
        ("Patient", "x" * 5_000),
    ],
)
def test_what_is_not_supported_is_refused_by_name_or_named_as_ignored(resource_type: str, name: str) -> None:
    query = asked(resource_type, (name, "x"), ("_id", "1"), strict=False)
    assert [one.name for one in query.ignored] == [name[:64]]
    assert query.used_pairs == (("_id", "1"),)
    assert len(query.criteria) == 1
    with pytest.raises(UnsupportedSearch) as refused:
        asked(resource_type, (name, "x"))
    assert name[:64] in str(refused.value)


def test_a_value_that_is_empty_does_not_count_and_is_named() -> None:
    for value in ("", ",", ",,,"):
        query = asked("Patient", ("name", value))
        assert (query.criteria, query.used_pairs) == ((), ())
        assert query.ignored == (Ignored("name", "it has no value"),)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("resource_type", "name", "value"),
    [
        ("Patient", "birthdate", "1973-02-30"),
        ("Patient", "birthdate", "xx"),
        ("Patient", "birthdate", "2020,xx"),
        ("Patient", "birthdate", "gt"),
        ("Patient", "_lastUpdated", "yesterday"),
        ("Observation", "code", "a|b|c"),
        ("Observation", "code", "|"),
        ("Observation", "code", "a\\"),
        ("Observation", "code", "a\\n"),
        ("Patient", "name", "a\\x"),
        ("Patient", "name", "\u0301"),
        ("Patient", "name", " "),
        ("Patient", "birthdate:exact", "2020"),
        ("Patient", "name:not", "x"),
        ("Patient", "identifier:contains", "x"),
        ("Patient", "name:Patient", "x"),
        ("Patient", "_id", "a\\"),
        ("Patient", "name", "a\x00b"),
        ("Observation", "code", "a\x1fb"),
        ("Patient", "name:missing", "1"),
        ("Patient", "_summary", "some"),
        ("Patient", "_elements", "a;b"),
        ("Patient", "_total", "many"),
        ("Observation", "code:in", "http://example.org/no-such-value-set"),
        ("Observation", "code:in", "http://hl7.org/fhir/ValueSet/observation-codes"),
        ("Observation", "code:below", "ETH"),
        ("Observation", "code:below", "http://loinc.org|8867-4"),
        ("Patient", "name:missing", "true,false"),
        ("Patient", "identifier:of-type", "http://x|MR"),
        ("Observation", "value-quantity", "5.4|mg"),
        ("Observation", "value-quantity", "much"),
        ("RiskAssessment", "probability", "0.1|x|y"),
        ("Observation", "code-value-quantity", "a|b"),
        ("Observation", "code-value-quantity", "a|b$"),
        ("Observation", "code-value-quantity", "a|b$5$6"),
        ("Observation", "code-value-quantity", "a|b$much"),
        ("Observation", "code-value-quantity:missing", "true"),
        ("Patient", "name", "\ud800"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_in_both_modes_without_repeating_it(
    resource_type: str, name: str, value: str, strict: bool
) -> None:
    with pytest.raises(MalformedSearch) as refused:
        asked(resource_type, (name, value), strict=strict)
    assert name.partition(":")[0] in str(refused.value) or "no text" in str(refused.value)
    assert len(value) < 3 or value not in str(refused.value)


def test_an_unknown_type_is_not_searched() -> None:
    for resource_type in ("patient", "Resource", ""):
        with pytest.raises(UnknownType):
            asked(resource_type)


def test_more_than_a_statement_can_hold_is_too_costly() -> None:
    with pytest.raises(TooCostly):
        asked("Patient", *[("name", "x")] * 101)
    with pytest.raises(TooCostly):
        asked("Patient", ("_id", ",".join(map(str, range(1_001)))))
    assert len(asked("Provenance", ("target", "1")).criteria) == 1


# Laws.


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
@example(["\\", ",", "|", "$", "a\\,b"])
def test_what_is_escaped_comes_back_as_it_was(texts: list[str]) -> None:
    for separator in ",|$":
        joined = separator.join(map(escape, texts))
        assert [unescape("name", part) for part in split(joined, separator)] == texts


names = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["code", "subject", "patient", "date", "_count", "_sort", "_id", "_lastUpdated", "_profile"]
    ),
    st.sampled_from(
        ["code:not", "subject:Patient", "subject:identifier", "value-string:exact", "_has:a:b:c"]
    ),
)
values = st.one_of(
    st.text(max_size=20),
    st.text(st.sampled_from("\\,|$ab1-:+TZ/"), max_size=20),
    st.sampled_from(["ge2020-01-01T10:00:00 01:00", "Patient/1", f"{BASE}/Patient/1", "9999-12-31", "0001"]),
)


def attempt(resource_type: str, pairs: list[tuple[str, str]], strict: bool) -> SearchQuery | CandourError:
    try:
        return asked(resource_type, *pairs, strict=strict)
    except CandourError as error:
        return error


@given(
    st.sampled_from(["Observation", "Patient", "Bundle"]),
    st.lists(st.tuples(names, values), max_size=5),
    st.booleans(),
)
def test_no_text_raises_anything_but_our_own_errors(
    resource_type: str, pairs: list[tuple[str, str]], strict: bool
) -> None:
    query = attempt(resource_type, pairs, strict)
    if isinstance(query, CandourError):
        assert 400 <= query.status < 500
        return
    assert len(query.criteria) <= len(pairs)
    assert SearchQuery.restore(json.loads(json.dumps(query.saved()))) == query
    again = parse_qsl(urlsplit(query.self_link(BASE)).query, keep_blank_values=True)
    assert asked(resource_type, *again).criteria == query.criteria
