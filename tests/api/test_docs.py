"""The examples of docs/interactions, run from top to bottom as they stand."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.world import World, an_observation

PAGES = Path(__file__).resolve().parents[2] / "docs" / "interactions"
RUN = ("read.md", "write.md", "history.md", "operations.md")


@dataclass
class Example:
    """A request as it is written, and what it must be answered."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    status: int = 0
    answered: dict[str, str] = field(default_factory=dict)
    """Regular expressions that headers of the answer match."""


def examples(page: str) -> list[Example]:
    found: list[Example] = []
    for block in re.findall(r"```http\n(.*?)```", (PAGES / page).read_text(), re.DOTALL):
        in_body = False
        for line in block.splitlines():
            if started := re.match(r"(GET|HEAD|POST|PUT|PATCH|DELETE) (/fhir/\S+)$", line):
                found.append(Example(started[1], started[2]))
                in_body = False
            elif answer := re.match(r"→ (\d{3})(?: ([A-Za-z-]+): (.*))?$", line):
                found[-1].status = int(answer[1])
                if answer[2]:
                    found[-1].answered[answer[2]] = answer[3]
            elif not line:
                in_body = True
            elif in_body:
                found[-1].body += line
            else:
                name, _, value = line.partition(": ")
                found[-1].headers[name] = value
    return found


@pytest.mark.parametrize("page", RUN)
async def test_every_example_is_answered_as_the_page_says(
    world: World, rx1: dict[str, str], page: str
) -> None:
    await world.patient(rx1, "p1")
    kept = await world.put("Observation/o1", an_observation("p1", id="o1"), rx1)
    assert kept.status_code == 201
    told = examples(page)
    assert len(told) > 10
    for one in told:
        assert one.status, f"{one.method} {one.target} says no answer"
        answer = await world.http.request(
            one.method, one.target, content=one.body.encode(), headers={**rx1, **one.headers}
        )
        assert answer.status_code == one.status, f"{one.method} {one.target}: {answer.text}"
        for name, pattern in one.answered.items():
            assert re.fullmatch(pattern, answer.headers[name]), f"{one.method} {one.target}: {name}"


async def test_every_example_of_a_search_is_answered(world: World, rx1: dict[str, str]) -> None:
    await world.patient(rx1, "p1")
    answered, _, refused = (PAGES / "search.md").read_text().partition("## What is not")
    for text, status in ((answered, 200), (refused, 400)):
        asked = re.findall(r"`GET\s+([A-Z][A-Za-z]*\?[^`]*)`", text)
        assert len(asked) > 5
        for one in asked:
            kind, _, query = one.replace("\\|", "|").partition("?")
            pairs = [pair.partition("=")[::2] for pair in query.split("&")]
            answer = await world.http.get(
                f"/fhir/{kind}", params=pairs, headers={**rx1, "Prefer": "handling=strict"}
            )
            assert answer.status_code == status, f"{one}: {answer.text}"


def test_every_page_is_in_the_index_and_every_link_leads_somewhere() -> None:
    index = (PAGES / "README.md").read_text()
    pages = {one.name for one in PAGES.glob("*.md")} - {"README.md"}
    assert {one for one in pages if f"({one})" not in index} == set()
    for page in PAGES.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
