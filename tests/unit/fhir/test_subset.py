"""A part of a resource keeps what was asked for and what it must have, byte for byte, and says that it is a part."""

import json
import lzma
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MalformedSearch
from app.fhir.definitions import type_definition
from app.fhir.subset import SUBSETTED, Subset, read_subset
from app.fhir.text import Cut, cut

TEXT = """{ "resourceType" : "Observation", "id":"o",
  "text":{"status":"generated","div":"<div xmlns='http://www.w3.org/1999/xhtml'/>"},
  "meta":{"versionId":"1","tag":[{"system":"urn:x","code":"y"}]}, "status":"final", "category":[{"text":"x"}],
  "code":{"text":"c"}, "note":[{"text":"n"}], "valueQuantity":{"value":1.50},
  "component":[{"code":{"text":"x"},"valueString":"a","interpretation":[{"text":"h"}]}] }"""


def examples(shared_data: Path) -> Iterator[str]:
    for path in sorted((shared_data / "hl7" / "examples").glob("*.ndjson.xz")):
        yield from lzma.decompress(path.read_bytes()).decode().splitlines()


def names(text: str) -> set[str]:
    return set(json.loads(text))


@pytest.mark.parametrize(
    ("subset", "kept", "left_away"),
    [
        (Subset("true"), {"status", "code", "valueQuantity", "component"}, {"text", "note", "category"}),
        (Subset("text"), {"text", "status", "code"}, {"note", "valueQuantity", "component", "category"}),
        (Subset("data"), {"note", "valueQuantity", "component", "category"}, {"text"}),
        (Subset(elements=("note",)), {"note", "status", "code"}, {"text", "valueQuantity", "category"}),
        (Subset(elements=("Observation.value",)), {"valueQuantity"}, {"note", "component"}),
        (Subset(elements=("Patient.value",)), {"status"}, {"valueQuantity"}),
    ],
)
def test_each_kind_keeps_its_elements_and_what_must_be_there(
    subset: Subset, kept: set[str], left_away: set[str]
) -> None:
    found = subset.of(TEXT)
    assert kept | {"resourceType", "id", "meta"} <= names(found)
    assert not left_away & names(found)
    assert (
        SUBSETTED in json.loads(found)["meta"]["tag"]
        and {"system": "urn:x", "code": "y"} in json.loads(found)["meta"]["tag"]
    )


def test_a_summary_reaches_into_elements() -> None:
    [component] = json.loads(Subset("true").of(TEXT))["component"]
    assert "interpretation" not in component and component["valueString"] == "a"


def test_digits_and_white_space_of_what_stays_are_kept() -> None:
    assert '"valueQuantity":{"value":1.50}' in Subset("data").of(TEXT)
    assert '{ "resourceType" : "Observation"' in Subset("data").of(TEXT)


def test_a_mark_that_is_there_is_not_set_twice() -> None:
    once = Subset("data").of(TEXT)
    assert Subset("data").of(once) == once


@pytest.mark.parametrize("summary", ["true", "text", "data"])
def test_every_example_has_a_part_that_holds_what_is_mandatory(summary: Any, shared_data: Path) -> None:
    for text in examples(shared_data):
        whole = json.loads(text, parse_float=Decimal)
        part = json.loads(Subset(summary).of(text), parse_float=Decimal)
        for name, value in part.items():
            if name not in ("meta", "contained") and summary != "true":
                assert value == whole[name]
        needed = [one.name for one in type_definition(whole["resourceType"]).elements.values() if one.min > 0]
        assert {name for name in needed if name in whole} <= part.keys()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@given(st.dictionaries(texts, st.integers() | st.lists(st.integers()), max_size=8), st.data())
def test_cutting_members_is_what_removing_them_is(members: dict[str, Any], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.sampled_from(sorted(members)))) if members else set()
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]))
    text = json.dumps(members, separators=separators)
    assert json.loads(cut(text, [Cut(0, name) for name in gone])) == {
        name: value for name, value in members.items() if name not in gone
    }


@pytest.mark.parametrize(("summary", "elements"), [("some", None), (None, "a;b"), ("true", "id"), ("", None)])
def test_what_is_no_part_is_refused(summary: str | None, elements: str | None) -> None:
    with pytest.raises(MalformedSearch):
        read_subset(summary, elements)


def test_nothing_asked_is_the_whole() -> None:
    assert (
        read_subset(None, None) is None
        and read_subset("false", None) is None
        and read_subset("count", None) is None
    )
