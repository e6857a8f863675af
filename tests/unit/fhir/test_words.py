"""The words of a resource are what a person reads in it, and are asked for as R4 has it (R4 search, 3.1.1.4.11)."""

import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CandourError, MalformedSearch, TooCostly
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.words import (
    DEEPEST,
    MOST_WORDS,
    Phrase,
    Together,
    Without,
    Words,
    content_words,
    narrative_words,
    read_words,
    words_of,
)

XHTML = "http://www.w3.org/1999/xhtml"


def matches(asked: str, *pieces: str) -> bool:
    return read_words("_text", asked).matches(Words(iter(pieces)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("No evidence of disease.", ["no", "evidence", "of", "disease"]),
        ("Bisoprolol 2.5mg/day", ["bisoprolol", "2", "5mg", "day"]),
        ("the patient's N/A follow-up_note", ["the", "patients", "n", "a", "follow", "up", "note"]),
        ("GRÜN Straße ﬁne", ["grun", "strasse", "fine"]),
        ("Блад 血液", ["блад", "血液"]),
        (" … — ", []),
    ],
)
def test_words_are_letters_and_digits_without_accents_or_case(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("liver", True),
        ("LIVER", True),
        ("live", False),
        ("live*", True),
        ("live* bone", True),
        ("kidney", False),
        ("bone metastases", True),
        ("bone kidney", False),
        ("bone AND metastases", True),
        ("bone OR kidney", True),
        ("kidney or bone", True),
        ("(bone OR liver) and metastases", True),
        ("(kidney OR lung) and metastases", False),
        ("kidney and liver or bone", True),
        ("kidney and (liver or bone)", False),
        ("not kidney", True),
        ("NOT bone", False),
        ("-kidney", True),
        ("bone -liver", False),
        ("bone not (kidney or lung)", True),
        ("-(bone and kidney)", True),
        ("not not bone", True),
        ('"metastases in the liver"', True),
        ('"in liver"', False),
        ('"in the liv"', False),
        ('"in the liv"*', True),
        ('-"in the lung"', True),
        ('"and bone"', True),
        ('"bone or"', False),
        ("follow-up", True),
        ("up-follow", False),
        ('"liver Also"', False),
    ],
)
def test_words_are_asked_for_in_words(asked: str, found: bool) -> None:
    pieces = ("Several metastases in the liver", "Also: more and bone, for follow-up.")
    assert matches(asked, *pieces) is found


def test_what_is_asked_is_read_as_a_tree() -> None:
    a, b, c = (Phrase((one,)) for one in "abc")
    assert read_words("_text", "a b or c") == Together("or", (Together("and", (a, b)), c))
    assert read_words("_text", "a (b or -c)") == Together("and", (a, Together("or", (b, Without(c)))))
    assert read_words("_text", '"a b"*') == Phrase(("a", "b"), begins=True)


@pytest.mark.parametrize(
    "asked",
    [
        "",
        " ",
        "and",
        "or a",
        "a or",
        "a and",
        "a and and b",
        "not",
        "-",
        "(",
        "()",
        "(a",
        "a)",
        '"a',
        '""',
        "…",
        "a -*",
    ],
)
def test_what_cannot_be_read_is_refused(asked: str) -> None:
    with pytest.raises(MalformedSearch, match=r"^_text: "):
        read_words("_text", asked)


def test_what_is_asked_has_a_size_and_a_depth() -> None:
    assert read_words("_text", "(" * (DEEPEST - 1) + "a" + ")" * (DEEPEST - 1)) == Phrase(("a",))
    for much in (
        "(" * DEEPEST + "a" + ")" * DEEPEST,
        "not " * 20 + "a",
        "a " * (2 * MOST_WORDS + 1),
        "-" * 90,
    ):
        with pytest.raises((TooCostly, MalformedSearch)):
            read_words("_text", much)


@given(st.text() | st.lists(st.sampled_from(["a", '"', "(", ")", "or", "not", "-", "*", " "])).map("".join))
def test_whatever_is_asked_is_read_or_refused(text: str) -> None:
    with suppress(CandourError):
        read_words("_text", text).matches(Words(iter(["a b"])))


@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1), max_size=3),
    st.lists(st.sampled_from("abc"), min_size=1),
)
def test_a_phrase_is_found_exactly_where_its_words_follow_one_another(
    pieces: list[list[str]], phrase: list[str]
) -> None:
    expected = any(f" {' '.join(phrase)} " in f" {' '.join(piece)} " for piece in pieces)
    assert Words(" ".join(piece) for piece in pieces).hold(phrase, begins=False) is expected
    began = any(re.search(rf"\b{' '.join(phrase)}", " ".join(piece)) for piece in pieces)
    assert Words(" ".join(piece) for piece in pieces).hold(phrase, begins=True) is bool(began)


# What of a resource.


def narrative(markup: str) -> Words:
    return narrative_words(
        {"resourceType": "Patient", "text": {"div": f'<div xmlns="{XHTML}">{markup}</div>'}}
    )


def test_a_narrative_has_the_words_that_are_shown() -> None:
    shown = narrative(
        '<p class="hidden">Wine&#160;&amp; H<sub>2</sub>O <a href="http://secret.example/">link</a></p>'
        "<!-- remark --><ul><li>one</li><li>two</li></ul><img src='#x' alt=\"a > picture\"/>three<br/>four &lt;tag&gt;"
    )
    for word in ("wine", "h2o", "link", "one", "two", "three", "four", "tag"):
        assert shown.hold([word], begins=False), word
    for word in (
        "amp",
        "hidden",
        "secret",
        "href",
        "remark",
        "li",
        "picture",
        "div",
        "lt",
        "http",
        "onetwo",
        "2",
    ):
        assert not shown.hold([word], begins=False), word
    assert not shown.hold(["one", "two"], begins=False)
    assert shown.hold(["wine", "h2o"], begins=False)


@pytest.mark.parametrize(
    "odd", [None, 5, [], {}, {"div": None}, {"div": 5}, {"div": "<div"}, {"div": "a & b"}]
)
def test_what_is_no_narrative_has_no_words(odd: Any) -> None:
    assert not narrative_words({"text": odd}).hold(["a"], begins=True)


OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "ident1",
    "meta": {"source": "urn:source1", "tag": [{"system": "http://sys.example", "code": "tagged"}]},
    "text": {"status": "generated", "div": f'<div xmlns="{XHTML}" title="attr1">Told <b>here</b></div>'},
    "contained": [
        {
            "resourceType": "Practitioner",
            "id": "ident2",
            "name": [{"family": "Within", "_family": {"id": "ident3"}}],
        }
    ],
    "extension": [
        {"url": "http://ext.example", "valueString": "Extended"},
        {"url": "u", "valueId": "ident4"},
    ],
    "status": "final",
    "_status": {"extension": [{"url": "u", "valueMarkdown": "**Marked**"}]},
    "code": {
        "coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}],
        "text": "Pulse",
    },
    "subject": {"reference": "Patient/ident5", "display": "Margaret"},
    "effectiveDateTime": "2026-03-01",
    "valueQuantity": {
        "value": Decimal("72"),
        "unit": "beats",
        "system": "http://unitsofmeasure.org",
        "code": "/min",
    },
    "note": [{"text": "A plain note"}, {"text": "Another"}],
}


def test_a_content_has_every_text_and_code_and_nothing_else() -> None:
    held = content_words(OBSERVATION)
    for phrase in (
        *(
            "told here",
            "within",
            "extended",
            "marked",
            "heart rate",
            "pulse",
            "8867 4",
            "margaret",
            "beats",
            "min",
        ),
        *("a plain note", "another", "final", "tagged"),
    ):
        assert held.hold(phrase.split(), begins=False), phrase
    for word in (
        *(
            "ident1",
            "ident2",
            "ident3",
            "ident4",
            "ident5",
            "attr1",
            "source1",
            "loinc",
            "http",
            "2026",
            "72",
        ),
        *("observation", "practitioner", "patient", "example", "sys"),
    ):
        assert not held.hold([word], begins=True), word
    assert not held.hold(["note", "another"], begins=False)


def test_attachments_are_no_words() -> None:
    document = {
        "resourceType": "DocumentReference",
        "content": [
            {
                "attachment": {
                    "data": "c2VjcmV0",
                    "hash": "aGFzaA==",
                    "title": "Letter",
                    "contentType": "text/plain",
                }
            }
        ],
    }
    held = content_words(document)
    assert held.hold(["letter"], begins=False) and held.hold(["text", "plain"], begins=False)
    assert not held.hold(["c2vjcmv0"], begins=True) and not held.hold(["agfzaa"], begins=True)
    assert not content_words({"resourceType": "Binary", "data": "c2VjcmV0"}).hold(["c"], begins=True)


def test_a_contained_resource_of_no_type_has_no_words_of_its_own() -> None:
    body = {**OBSERVATION, "contained": [{"resourceType": "Nothing", "name": "x1"}, {"name": "x2"}, 5]}
    assert not content_words(body).hold(["x"], begins=True)
    assert content_words(body).hold(["pulse"], begins=False)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(OBSERVATION)), inner, max_size=3)
    ),
)


@given(
    st.sampled_from(sorted(RESOURCE_TYPES)),
    st.dictionaries(st.sampled_from([*OBSERVATION, "name", "entry"]), _JSON),
)
def test_no_resource_makes_it_fail(kind: str, body: dict[str, Any]) -> None:
    body = {**body, "resourceType": kind}
    content_words(body).hold(["a"], begins=True)
    narrative_words(body).hold(["a"], begins=True)
