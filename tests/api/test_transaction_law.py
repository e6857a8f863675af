"""A transaction leaves and answers what its operations do one by one, in R4's order (R4 http, 3.1.0.11)."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bundles import Entry, done, entry, json_patch
from tests.world import World, an_observation

Who = dict[str, str]
_examples = count()
ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
STATES = ("never there", "there", "deleted")


@dataclass(frozen=True)
class Operation:
    """What is done to one record. ``slot`` stands for its id and identifier, so that it can be done in two places."""

    slot: int
    before: str
    name: str
    value: str

    def prepared(self, where: str) -> list[Entry]:
        """What brings the record into the state that it is in before."""
        made = entry("PUT", f"Observation/{self.id(where)}", self.text(where, "0"))
        gone = entry("DELETE", f"Observation/{self.id(where)}")
        return {"never there": [], "there": [made], "deleted": [made, gone]}[self.before]

    def entry(self, where: str) -> Entry:
        address = f"Observation/{self.id(where)}"
        criteria = f"identifier=urn:slot|{self.id(where)}"
        text = self.text(where, self.value)
        match self.name:
            case "update":
                return entry("PUT", address, text)
            case "update if unchanged":
                return entry("PUT", address, text, ifMatch='W/"1"')
            case "update if new":
                return entry("PUT", address, text, ifNoneMatch="*")
            case "update where":
                return entry("PUT", f"Observation?{criteria}", text)
            case "create if none":
                return entry("POST", "Observation", text, ifNoneExist=criteria)
            case "delete":
                return entry("DELETE", address)
            case "delete where":
                return entry("DELETE", f"Observation?{criteria}")
            case "patch":
                change = {"op": "add", "path": "/note", "value": [{"text": self.value}]}
                return entry("PATCH", address, json_patch(change))
            case "read where":
                return entry("GET", f"Observation?{criteria}&_elements=status")
        return entry("GET", address)

    @staticmethod
    def possible(before: str) -> list[str]:
        """What succeeds in this state."""
        always = ["update", "delete", "delete where", "read where"]
        return (
            always
            + {
                "never there": ["update if new", "update where", "create if none"],
                "there": ["update if unchanged", "update where", "create if none", "patch", "read"],
                "deleted": ["update if new", "create if none"],
            }[before]
        )

    def id(self, where: str) -> str:
        return f"{where}-{self.slot}"

    def text(self, where: str, value: str) -> str:
        id = self.id(where)
        return an_observation("p1", value=value, id=id, identifier=[{"system": "urn:slot", "value": id}])


@st.composite
def operations(draw: st.DrawFn) -> list[Operation]:
    """At most one for each record, as R4 has it, in any order."""
    made = []
    for slot in range(draw(st.integers(1, 7))):
        before = draw(st.sampled_from(STATES))
        name = draw(st.sampled_from(Operation.possible(before)))
        made.append(Operation(slot, before, name, draw(st.sampled_from(["0", "1.50", "6.30"]))))
    return draw(st.permutations(made))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations())
async def test_a_transaction_is_its_operations_one_by_one(
    world: World, rx1: Who, operations: list[Operation]
) -> None:
    example = next(_examples)
    together, alone = f"t{example}", f"s{example}"
    await world.patient(rx1, "p1")
    for where in (together, alone):
        for one in operations:
            for preparing in one.prepared(where):
                await _by_itself(world, rx1, preparing)
    answers = await done(world, rx1, *(one.entry(together) for one in operations))
    singly = await _one_by_one(world, rx1, [one.entry(alone) for one in operations])
    for one, answer, single in zip(operations, answers, singly, strict=True):
        said = (int(answer["response"]["status"][:3]), answer["response"].get("etag"))
        assert said == (single.status_code, single.headers.get("etag")), one
        assert _alike(answer.get("resource"), together) == _alike(_body(single), alone), one
    for one in operations:
        assert await _left(world, rx1, one, together) == await _left(world, rx1, one, alone), one


async def _one_by_one(world: World, who: Who, entries: Sequence[Entry]) -> list[httpx.Response]:
    answers: dict[int, httpx.Response] = {}
    for place in sorted(range(len(entries)), key=lambda n: ORDER[entries[n]["request"]["method"]]):
        answers[place] = await _by_itself(world, who, entries[place])
    return [answers[place] for place in range(len(entries))]


async def _by_itself(world: World, who: Who, one: Entry) -> httpx.Response:
    request = dict(one["request"])
    headers = {
        "If-Match": request.get("ifMatch"),
        "If-None-Match": request.get("ifNoneMatch"),
        "If-None-Exist": request.get("ifNoneExist"),
        "Content-Type": "application/fhir+json",
    }
    body = one.get("resource")
    if request["method"] == "PATCH":
        headers["Content-Type"] = "application/json-patch+json"
        body = base64.b64decode(one["resource"]["data"]).decode()
    return await world.http.request(
        request["method"],
        f"/fhir/{request['url']}",
        content=body,
        headers={**who, **{name: text for name, text in headers.items() if text is not None}},
    )


def _body(answer: httpx.Response) -> Any:
    return answer.json() if answer.content else None


def _alike(value: Any, where: str) -> str:
    """Without what time and place give a record."""
    return json.dumps(_timeless(value)).replace(f"{where}-", "slot-")


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        dropped = ("lastUpdated", "asOf", "extension", "details") + (
            ("id",) if not str(value.get("id", "")).startswith(("t", "s")) else ()
        )
        return {
            name: _timeless(one) for name, one in value.items() if name not in dropped and name != "fullUrl"
        }
    return [_timeless(one) for one in value] if isinstance(value, list) else value


async def _left(world: World, who: Who, one: Operation, where: str) -> list[str]:
    """Every version of the record, and what a search finds of it."""
    read = await world.get(f"Observation/{one.id(where)}", who)
    history = await world.get(f"Observation/{one.id(where)}/_history", who)
    found = (await world.get(f"Observation?identifier=urn:slot|{one.id(where)}", who)).json()
    texts = [entry.get("resource") for entry in found.get("entry", [])]
    versions = [
        [entry["request"]["method"], entry["response"]["etag"], entry.get("resource")]
        for entry in (history.json().get("entry", []) if history.status_code == 200 else [])
    ]
    return [str(read.status_code), _alike(_body(read), where), _alike(versions, where), _alike(texts, where)]
