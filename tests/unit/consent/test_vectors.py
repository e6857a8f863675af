"""Every decision vector, by the point evaluator; the property tests tie SQL to it."""

import json
from typing import Any

import pytest

from app.consent.directive import normalise
from app.errors import InvalidResource
from tests.unit.consent.vectors import BASE, KEPT, VECTORS, Case, cases, facets_in

EVERY = [
    pytest.param(case, id=f"{name}: {title}")
    for name in ("pcf-shapes", "semantics", "purposes")
    for title, case in cases(name)
]
REFUSED = json.loads((VECTORS / "refused.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", EVERY)
def test_a_vector_is_decided_as_it_says(case: Case) -> None:
    decision = case.decision
    released = sorted(name for name, facets in facets_in(case.world).items() if decision.releases(facets))
    assert released == case.released
    assert decision.permitted or not released
    if case.next_change_at is not None:
        assert decision.next_change_at == case.next_change_at


@pytest.mark.parametrize("given", REFUSED, ids=lambda given: given["title"])
def test_a_consent_that_cannot_be_understood_is_refused_by_element(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidResource) as refusal:
        normalise(given["consent"], version=1, server_time=KEPT, base_url=BASE)
    assert given["expression"] in {issue.expression for issue in refusal.value.issues}
    assert refusal.value.status == 422


@pytest.mark.parametrize("given", REFUSED, ids=lambda given: given["title"])
def test_it_is_kept_without_effect_while_it_is_not_active(given: dict[str, Any]) -> None:
    draft = {**given["consent"], "status": "draft"}
    assert normalise(draft, version=1, server_time=KEPT, base_url=BASE).status == "draft"
