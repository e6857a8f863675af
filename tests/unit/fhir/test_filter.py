"""``_filter`` is read exactly as R4's grammar has it, or refused with its place (R4 search_filter)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CandourError, MalformedSearch, TooCostly
from app.fhir.criteria import (
    AnyCriterion,
    ChainCriterion,
    Criterion,
    EveryCriterion,
    MissingCriterion,
    NotCriterion,
    NumberCriterion,
    QuantityCriterion,
    StringCriterion,
    TokenCriterion,
)
from app.fhir.filter_syntax import (
    DEEPEST,
    MOST_COMPARISONS,
    OPERATORS,
    Comparison,
    Filter,
    Junction,
    Negation,
    Step,
    conjuncts,
    read_filter,
)
from app.fhir.query import parse_search


def shape(found: Filter) -> object:
    """The tree without its places."""
    match found:
        case Comparison(path, operator, value):
            return (
                *(one.name if one.only is None else [one.name, shape(one.only)] for one in path),
                operator,
                value,
            )
        case Negation(part):
            return {"not": shape(part)}
        case Junction(word, parts):
            return {word: [shape(part) for part in parts]}


A, B, C, D = (("a", "eq", "1"), ("b", "eq", "2"), ("c", "eq", "3"), ("d", "eq", "4"))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ('name co "pet"', ("name", "co", "pet")),
        (
            'given eq "peter" and birthdate ge 2014-10-10',
            {"and": [("given", "eq", "peter"), ("birthdate", "ge", "2014-10-10")]},
        ),
        ("code eq http://loinc.org|1234-5", ("code", "eq", "http://loinc.org|1234-5")),
        ('subject.name co "pet"', ("subject", "name", "co", "pet")),
        (
            'related[type eq "has-component"].target pr true',
            (["related", ("type", "eq", "has-component")], "target", "pr", "true"),
        ),
        (
            "related[type eq has-component].target re Observation/4",
            (["related", ("type", "eq", "has-component")], "target", "re", "Observation/4"),
        ),
        ("subject:Patient._id eq 1", ("subject:Patient", "_id", "eq", "1")),
        ("a eq 1 and b eq 2 and c eq 3", {"and": [A, B, C]}),
        ("a eq 1 and b eq 2 or c eq 3 and d eq 4", {"and": [{"or": [{"and": [A, B]}, C]}, D]}),
        ("a eq 1 or b eq 2 and c eq 3", {"and": [{"or": [A, B]}, C]}),
        ("a eq 1 or (b eq 2 and c eq 3)", {"or": [A, {"and": [B, C]}]}),
        ("(a eq 1 and b eq 2) and c eq 3", {"and": [{"and": [A, B]}, C]}),
        ("not(a eq 1)", {"not": A}),
        ("not (a eq 1 or b eq 2) and c eq 3", {"and": [{"not": {"or": [A, B]}}, C]}),
        ("not(not(a eq 1))", {"not": {"not": A}}),
        ("((a eq 1))", A),
        ("  a\teq\n1  ", A),
        ("(a eq 1)and(b eq 2)", {"and": [A, B]}),
        ("not eq 1", ("not", "eq", "1")),
        ("and eq or", ("and", "eq", "or")),
        ("a eq and and b eq or", {"and": [("a", "eq", "and"), ("b", "eq", "or")]}),
        ("a eq b(c", ("a", "eq", "b(c")),
        (r'a eq "x \"y\" \\ \u00e9 )] and"', ("a", "eq", 'x "y" \\ é )] and')),
        ('a eq ""', ("a", "eq", "")),
        ("x[a eq 1].y[b eq 2 or c eq 3].z eq 4", (["x", A], ["y", {"or": [B, C]}], "z", "eq", "4")),
    ],
)
def test_a_filter_is_read_from_left_to_right(text: str, tree: object) -> None:
    assert shape(read_filter(text)) == tree


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("", 1, "the name of a search parameter is expected"),
        ("1a eq 2", 1, "the name"),
        ("é eq 2", 1, "the name"),
        ("a", 2, "an operator is expected, one of eq, ne, co"),
        ("a EQ 1", 3, "an operator"),
        ("a eqx 1", 3, "an operator"),
        ("a eq", 5, "a value is expected"),
        ("a eq )", 6, "a value is expected"),
        ("a eq=1", 5, "a value is expected"),
        ('a eq "x', 6, "a string in quotes has no end"),
        ('a eq "x\\"', 6, "a string in quotes has no end"),
        (r'a eq "\q"', 6, "an escape that JSON does not know"),
        (r'a eq "\u0000"', 6, "an escape that is no text"),
        (r'a eq "\ud800"', 6, "an escape that is no text"),
        ("a eq 1 b eq 2", 8, "and, or or the end is expected"),
        ("a eq 1)", 7, "and, or or the end is expected"),
        ("(a eq 1", 8, "and, or or ) is expected"),
        ("not(a eq 1]", 11, "and, or or ) is expected"),
        ("not a eq 1", 5, "an operator"),
        ("a eq 1 and", 11, "the name"),
        ("a eq 1 andb eq 2", 8, "and, or or the end"),
        ("a. eq 1", 3, "the name"),
        ("a[b eq 1] eq 2", 10, "a dot and a parameter"),
        ("a[b eq 1.c eq 2", 12, "and, or or ] is expected"),
        ("a[].b eq 1", 3, "the name"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_character(text: str, place: int, said: str) -> None:
    with pytest.raises(MalformedSearch) as refused:
        read_filter(text)
    assert str(refused.value).startswith(f"_filter: at character {place}, ")
    assert said in str(refused.value)


_WORDS = st.sampled_from(
    [
        "a",
        "b.c",
        "eq",
        "and",
        "or",
        "not",
        "(",
        ")",
        "[",
        "]",
        '"',
        '"x"',
        "\\",
        " ",
        ".",
        ":",
        "re",
        "x|y",
        "é",
    ]
)


@given(st.lists(_WORDS).map(" ".join) | st.lists(_WORDS).map("".join) | st.text())
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        found = read_filter(text)
    except CandourError:
        return
    for part in conjuncts(found):
        assert shape(read_filter(text[part.start : part.end])) == shape(part)


_NAMES = st.sampled_from(["a", "b", "c-d", "_id", "subject:Patient"])
_VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


def _compared(name: str, operator: str, value: str) -> tuple[str, object]:
    return f"{name} {operator} {json.dumps(value)}", (name, operator, value)


def _all(word: str, parts: list[tuple[str, object]]) -> tuple[str, object]:
    return f" {word} ".join(f"({text})" for text, _ in parts), {word: [tree for _, tree in parts]}


_TREES = st.recursive(
    st.builds(_compared, _NAMES, st.sampled_from(OPERATORS), _VALUES),
    lambda inner: (
        inner.map(lambda one: (f"not({one[0]})", {"not": one[1]}))
        | st.builds(_all, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=6,
)


@given(_TREES)
def test_what_is_written_from_a_tree_is_read_as_that_tree(one: tuple[str, object]) -> None:
    assert shape(read_filter(one[0])) == one[1]


def test_a_filter_has_a_size_and_a_depth() -> None:
    most = " and ".join(["a eq 1"] * MOST_COMPARISONS)
    assert len(list(conjuncts(read_filter(most)))) == MOST_COMPARISONS
    deepest = "(" * (DEEPEST - 1) + "a eq 1" + ")" * (DEEPEST - 1)
    assert shape(read_filter(deepest)) == A
    changing = " ".join(f"{('and', 'or')[at % 2]} a eq {at}" for at in range(DEEPEST))
    assert len(list(conjuncts(read_filter(f"a eq 0 {changing}")))) == 1
    for too_much in (
        f"{most} and a eq 1",
        f"({deepest})",
        "not(" * DEEPEST + "a eq 1" + ")" * DEEPEST,
        "x[" * DEEPEST + "a eq 1" + "].y eq 1" * DEEPEST,
        "(" * 100_000,
        f"a eq 0 {changing} and (b eq 1 or c eq 1)",
        " or a eq 2 and ".join(["a eq 1"] * 40),
    ):
        with pytest.raises(TooCostly):
            read_filter(too_much)


def test_a_bracket_does_not_hide_where_a_path_begins() -> None:
    found = read_filter("x[a eq 1].y eq 2")
    assert isinstance(found, Comparison)
    assert found.path == (Step("x", Comparison((Step("a"),), "eq", "1", False, 2, 8)), Step("y"))
    assert (found.start, found.end) == (0, 16)


# What it asks.


def criterion(resource_type: str, text: str) -> Criterion:
    [only] = parse_search(resource_type, [("_filter", text)], strict=True).criteria
    return only


def single(resource_type: str, name: str, value: str) -> Criterion:
    [only] = parse_search(resource_type, [(name, value)], strict=True).criteria
    return only


@pytest.mark.parametrize(
    ("kind", "text", "name", "value"),
    [
        ("Patient", 'name sw "pet"', "name", "pet"),
        ("Patient", 'name co "a,b$c|d\\\\"', "name:contains", r"a\,b\$c\|d\\"),
        ("Observation", "code eq snomed|1", "code", "http://snomed.info/sct|1"),
        ("Observation", "code eq rxnorm|1", "code", "http://www.nlm.nih.gov/research/umls/rxnorm|1"),
        ("Observation", "code eq loinc", "code", "loinc"),
        ("Observation", r"code eq a\|b,c", "code", r"a\|b\,c"),
        ("Observation", "value-quantity gt 5||mg", "value-quantity", "gt5||mg"),
        ("RiskAssessment", "probability ge 0.5", "probability", "ge0.5"),
        ("Observation", "date po 2020", "date", "ap2020"),
        ("Observation", "subject:Patient.gender eq male", "subject:Patient.gender", "male"),
        ("Patient", "_list eq l1", "_list", "l1"),
        ("Patient", "_tag eq urn:a|b", "_tag", "urn:a|b"),
        ("Patient", "_profile eq http://a|1", "_profile", r"http://a\|1"),
        ("ValueSet", "url eq http://a,b", "url", r"http://a\,b"),
        ("Observation", "code-value-quantity eq loinc|1$gt5", "code-value-quantity", "loinc|1$gt5"),
    ],
)
def test_a_comparison_is_the_single_search_that_it_stands_for(
    kind: str, text: str, name: str, value: str
) -> None:
    assert criterion(kind, text) == single(kind, name, value)


def test_logic_is_kept_as_it_is_written() -> None:
    one, other = single("Patient", "gender", "male"), single("Patient", "active", "true")
    assert criterion("Patient", "gender eq male or active eq true") == AnyCriterion((one, other))
    assert criterion("Patient", "not(gender eq male and active eq true)") == NotCriterion(
        EveryCriterion((one, other))
    )
    query = parse_search("Patient", [("_filter", "gender eq male and (active eq true)")], strict=True)
    assert query.criteria == (one, other)
    assert query.criterion_pairs == (("_filter", "gender eq male"), ("_filter", "(active eq true)"))
    assert query.used_pairs == (("_filter", "gender eq male and (active eq true)"),)


def test_strings_are_compared_folded() -> None:
    for operator in ("eq", "ne", "ew", "gt", "lt", "ge", "le"):
        found = criterion("Patient", f'name {operator} "Grün"')
        assert found == StringCriterion("name", operator, ("grun",), ("grun",)), operator


def test_the_absence_of_a_path_is_denied_as_a_whole() -> None:
    absent = criterion("Observation", "encounter.class pr false")
    assert isinstance(absent, NotCriterion) and isinstance(absent.criterion, ChainCriterion)
    [(kind, inner)] = absent.criterion.targets
    assert kind == "Encounter" and isinstance(inner, MissingCriterion) and not inner.missing


def test_another_value_needs_a_parameter_that_has_one_at_most() -> None:
    found = criterion("Patient", "gender ne male")
    assert isinstance(found, EveryCriterion)
    present, denied = found.parts
    assert isinstance(present, MissingCriterion) and not present.missing
    assert denied == NotCriterion(single("Patient", "gender", "male"))


def test_a_filter_that_is_ignored_leaves_nothing_behind() -> None:
    query = parse_search("Observation", [("_filter", "patient re Patient/1 and code co x")], strict=False)
    assert query.criteria == () and query.patient_scope is None
    assert [one.name for one in query.ignored] == ["_filter"]


def test_only_what_must_be_so_names_the_patient() -> None:
    def scope(text: str) -> str | None:
        return parse_search("Observation", [("_filter", text)], strict=True).patient_scope

    assert scope("patient re Patient/1") == "1"
    assert scope("code eq a and (status eq final and subject eq Patient/1)") == "1"
    for text in (
        "patient re Patient/1 or code eq a",
        "not(patient re Patient/1)",
        "patient ne Patient/1",
        "patient re Patient/1 and patient re Patient/2",
        "encounter.patient re Patient/1",
        "encounter[patient re Patient/1].class eq AMB",
        "patient pr true",
    ):
        assert scope(text) is None, text


def test_all_of_a_filter_counts_among_the_alternatives() -> None:
    wide = " or ".join(f"code eq {at}" for at in range(MOST_COMPARISONS))
    pairs = [("_filter", wide)] * 10
    assert len(parse_search("Observation", pairs, strict=True).criteria) == 10
    with pytest.raises(TooCostly):
        parse_search("Observation", [*pairs, ("code", "x")], strict=True)


def test_values_of_each_kind_come_through() -> None:
    assert isinstance(criterion("RiskAssessment", "probability lt 1"), NumberCriterion)
    assert isinstance(criterion("Observation", "value-quantity lt 1|ucum|g"), QuantityCriterion)
    assert isinstance(criterion("Observation", "code eq 1"), TokenCriterion)
