"""After a patch no narrative tells of what is no longer so (R4 http.html#patch)."""

import json
from typing import Any

import pytest

from app.errors import BusinessRule
from app.fhir.patching.narrative import with_safe_narrative


def condition(status: str, **members: Any) -> str:
    narrative = {"status": status, "div": "<div>Asthma</div>"}
    return json.dumps(
        {"resourceType": "Condition", "id": "c", "text": narrative, "onsetAge": {"value": 1}} | members
    )


@pytest.mark.parametrize("status", ["generated", "extensions"])
def test_what_was_generated_from_other_data_is_left_away(status: str) -> None:
    after = condition(status, onsetAge={"value": 2})
    answer = with_safe_narrative(condition(status), after)
    assert answer == '{"resourceType": "Condition", "id": "c", "onsetAge": {"value": 2}}'


def test_what_says_more_than_the_data_has_to_be_changed_with_them() -> None:
    with pytest.raises(BusinessRule, match="Change it in the same patch") as raised:
        with_safe_narrative(condition("additional"), condition("additional", onsetAge={"value": 2}))
    assert raised.value.issues[0].expression == "Condition.text"


@pytest.mark.parametrize("status", ["generated", "extensions", "additional", "empty"])
@pytest.mark.parametrize(
    "members",
    [
        {},
        {"meta": {"versionId": "2"}},
        {"text": {"status": "additional", "div": "<div>Eczema</div>"}, "onsetAge": {"value": 2}},
    ],
)
def test_a_narrative_that_tells_of_the_same_data_or_was_changed_with_them_stays(
    status: str, members: dict[str, Any]
) -> None:
    after = condition(status, **members)
    assert with_safe_narrative(condition(status), after) == after


def test_what_tells_nothing_stays_and_what_is_not_there_is_not_missed() -> None:
    after = condition("empty", onsetAge={"value": 2})
    assert with_safe_narrative(condition("empty"), after) == after
    without = '{"resourceType":"Condition","id":"c","onsetAge":{"value":2}}'
    assert with_safe_narrative(condition("generated"), without) == without


def test_other_digits_of_the_same_number_are_the_same_data() -> None:
    before = condition("generated")
    after = before.replace('"value": 1', '"value": 1.0')
    assert with_safe_narrative(before, after) == after
