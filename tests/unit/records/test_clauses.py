"""One statement serves every question of a shape, and an index is asked only where it finds all that is meant."""

from app.fhir.criteria import AnyCriterion, Criterion, EveryCriterion, NotCriterion
from app.fhir.query import parse_search
from app.records.clauses import Shape, by_token, shape_of, values_of


def criterion(text: str) -> Criterion:
    [only] = parse_search("Observation", [("_filter", text)], strict=True).criteria
    return only


def shape(text: str) -> Shape:
    return shape_of(criterion(text))


def test_filters_that_differ_in_values_alone_have_one_shape() -> None:
    assert shape("code eq a or not(date gt 2020)") == shape("status eq final or not(date gt 2021-05)")
    assert shape("code eq a or code eq b or date gt 2020") == shape("code eq a or date gt 2020")
    assert shape("code eq a or date gt 2020") != shape("code eq a or date lt 2020")
    assert shape("not(code eq a)") != shape("not(date eq 2020)")
    assert shape("code eq a or (code eq b and date eq 2020)") != shape(
        "code eq a or code eq b or date eq 2020"
    )


def test_alternatives_by_token_are_asked_as_one() -> None:
    found = values_of("c", criterion("code eq a or status eq final or encounter re Encounter/e1"))
    assert len(found["c0_0"]) == 3
    assert not any(name.startswith("c0_1") for name in found)


def test_an_index_on_tokens_is_asked_only_for_what_it_finds_whole() -> None:
    for text, whole in {
        "code eq a": True,
        "code eq a or code eq b": True,
        "code eq a or (code eq b and date eq 2020)": True,
        "code eq a or date eq 2020": False,
        "code eq a or not(code eq b)": False,
        "not(code eq a)": False,
        "date eq 2020 or value-quantity gt 5": False,
    }.items():
        assert by_token(shape(text)) is whole, text
    assert by_token(shape_of(EveryCriterion((criterion("code eq a"), criterion("date eq 2020")))))
    assert not by_token(shape_of(EveryCriterion((NotCriterion(criterion("code eq a")),))))
    assert not by_token(shape_of(AnyCriterion(()))) and not by_token(shape_of(EveryCriterion(())))
