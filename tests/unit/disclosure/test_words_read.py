"""Reading for words stops where it would become too much, and reads each candidate once (R4 search, 3.1.1.4.11)."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.asked import Asked
from app.disclosure.finding import EVERYBODY, MOST_CANDIDATES, Finding
from app.disclosure.gate import Gate
from app.disclosure.lookups import Lookups
from app.errors import TooCostly
from app.fhir.criteria import Criterion, IdCriterion, NotCriterion, in_words, token
from app.fhir.facets import Facets
from app.records.reading import Record
from app.records.searching import Page, Question, Row
from app.vocabulary import NO_PATIENT, ods_code

START = datetime(2026, 1, 1, tzinfo=UTC)


def _row(place: int) -> Row:
    word = "even" if place % 2 == 0 else "odd"
    content = f'{{"resourceType":"Organization","name":"{word}"}}'
    at = START - timedelta(seconds=place)
    custodian = ods_code("RX1")
    facets = Facets(resource_type="Organization", id=f"o{place}", custodian=custodian)
    record = Record("Organization", f"o{place}", 1, at, False, custodian, content, NO_PATIENT, (), facets)
    return Row(record, at, None)


class Kept(Finding):
    """A store of so many Organizations, in the order of a search."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.questions: list[Question] = []

    async def page(self, asked: Asked, question: Question) -> Page:
        self.questions.append(question)
        first = 0 if question.after is None else int(question.after.id.removeprefix("o")) + 1
        last = min(first + question.limit, self.count)
        return Page(tuple(map(_row, range(first, last))), last < self.count, None)


async def resolved(kept: Kept, *criteria: Criterion) -> tuple[Criterion, ...]:
    lookups = Lookups(cast(Gate, None), kept)
    asked = cast(Asked, SimpleNamespace(caller=SimpleNamespace(client_id="c1", organisation="RX1")))
    return await lookups.resolved(asked, "Organization", criteria, EVERYBODY)


async def test_what_has_the_words_is_named_by_its_id() -> None:
    kept = Kept(250)
    other = token("active", ["true"])
    found: Any
    plain, found = await resolved(kept, in_words("_content", ["even"]), other)
    assert plain == other
    assert found == IdCriterion(tuple(f"o{at}" for at in range(0, 250, 2)))
    assert [len(one.criteria) for one in kept.questions] == [1, 1, 1]
    assert [one.after.id if one.after else None for one in kept.questions] == [None, "o99", "o199"]
    [denied] = await resolved(Kept(4), NotCriterion(in_words("_content", ["odd"])))
    assert denied == NotCriterion(IdCriterion(("o1", "o3")))


async def test_as_many_as_may_be_read_are_read_and_not_one_more() -> None:
    [found] = await resolved(Kept(MOST_CANDIDATES), in_words("_content", ["odd"]))
    assert isinstance(found, IdCriterion) and len(found.ids) == MOST_CANDIDATES // 2
    with pytest.raises(TooCostly, match="_content: more than 10,000 resources"):
        await resolved(Kept(MOST_CANDIDATES + 1), in_words("_content", ["odd"]))
