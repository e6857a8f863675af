"""Transactions and batches for tests, and what their answers say."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import httpx

from tests.world import World

Entry = dict[str, Any]
Who = dict[str, str]
JSON_PATCH = "application/json-patch+json"


def entry(
    method: str, url: str, resource: Any = None, *, full_url: str | None = None, **conditions: str
) -> Entry:
    """One entry; ``conditions`` are members of its request: ``ifMatch='W/"1"'``. A resource may be given as text."""
    made: Entry = {"request": {"method": method, "url": url, **conditions}}
    if full_url is not None:
        made["fullUrl"] = full_url
    if resource is not None:
        made["resource"] = resource
    return made


def json_patch(*operations: dict[str, Any], media_type: str = JSON_PATCH) -> dict[str, str]:
    data = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"resourceType": "Binary", "contentType": media_type, "data": data}


def fhirpath_patch(kind: str, path: str, **values: Any) -> dict[str, Any]:
    """One operation; ``values`` are its further parts: ``value={"valueCode": "final"}``."""
    parts = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    parts += [{"name": name, **value} for name, value in values.items()]
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}


def a_bundle(*entries: Entry, kind: str = "transaction") -> str:
    """Its text, each resource as it was given."""
    written = ",".join(_written(one) for one in entries)
    return f'{{"resourceType":"Bundle","type":"{kind}"' + (f',"entry":[{written}]}}' if entries else "}")


def _written(one: Entry) -> str:
    if not isinstance(one.get("resource"), str):
        return json.dumps(one)
    rest = json.dumps({name: value for name, value in one.items() if name != "resource"})
    return f'{{"resource":{one["resource"]},{rest[1:]}'


async def sent(
    world: World, who: Who, *entries: Entry, kind: str = "transaction", **headers: str
) -> httpx.Response:
    return await world.post("", a_bundle(*entries, kind=kind), who, **headers)


async def done(
    world: World, who: Who, *entries: Entry, kind: str = "transaction", **headers: str
) -> list[Entry]:
    """The entries of an answer that must be one."""
    answer = await sent(world, who, *entries, kind=kind, **headers)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["type"] == f"{kind}-response"
    found: list[Entry] = body.get("entry", [])
    assert len(found) == len(entries)
    return found


def statuses(entries: Sequence[Entry]) -> list[str]:
    return [one["response"]["status"][:3] for one in entries]


def expressions(answer: httpx.Response) -> list[str]:
    return [one.get("expression", [""])[0] for one in answer.json()["issue"]]
