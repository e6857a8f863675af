"""The CapabilityStatement, walked: what it advertises answers, and nothing else does (R4 capabilitystatement)."""

from typing import Any

import pytest

from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.includes import reference_codes, referring
from app.fhir.parameters import SearchParameter, parameters_of
from app.fhir.query import parse_search
from tests.world import World

Who = dict[str, str]

VALUES = {
    "token": "x",
    "reference": "x1",
    "date": "2026",
    "string": "a",
    "uri": "urn:x",
    "number": "1",
    "quantity": "1",
    "special": "x1",
}
SPECIAL = {"near": "51.5|-0.1|10|km", "_filter": "_id eq x1"}

# What each interaction is asked as, of a record that is not there, and the answers that mean: this is understood.
INTERACTIONS: dict[str, tuple[str, str, set[int]]] = {
    "read": ("GET", "{type}/nothing", {404}),
    "vread": ("GET", "{type}/nothing/_history/1", {404}),
    "history-instance": ("GET", "{type}/nothing/_history", {404}),
    "history-type": ("GET", "{type}/_history", {200}),
    "search-type": ("GET", "{type}?_id=nothing", {200}),
    "create": ("POST", "{type}", {201, 400, 422}),
    "update": ("PUT", "{type}/nothing", {201, 400, 422}),
    "patch": ("PATCH", "{type}/nothing-else", {404}),
    "delete": ("DELETE", "{type}/nothing-else", {204, 404}),
}


async def statement(world: World) -> dict[str, Any]:
    answer = await world.http.get("/fhir/metadata")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def by_type(world: World) -> dict[str, dict[str, Any]]:
    return {one["type"]: one for one in (await statement(world))["rest"][0]["resource"]}


async def test_every_type_of_r4_is_advertised_once(world: World) -> None:
    resources = (await statement(world))["rest"][0]["resource"]
    assert sorted(one["type"] for one in resources) == sorted(RESOURCE_TYPES)


async def test_every_advertised_interaction_answers_and_no_other(world: World, rx1: Who) -> None:
    for kind, told in (await by_type(world)).items():
        advertised = {one["code"] for one in told["interaction"]}
        assert advertised <= set(INTERACTIONS), kind
        if kind == "AuditEvent":
            continue
        for code, (method, address, expected) in INTERACTIONS.items():
            answer = await _asked(world, rx1, method, address.format(type=kind), kind)
            if code in advertised:
                assert answer.status_code in expected, f"{kind} {code}: {answer.text}"
                assert not _unsupported(answer), f"{kind} {code}: {answer.text}"
            else:
                assert answer.status_code in (404, 405, 501), f"{kind} {code}: {answer.text}"


async def _asked(world: World, who: Who, method: str, address: str, kind: str) -> Any:
    body = f'{{"resourceType":"{kind}"' + (',"id":"nothing"' if method == "PUT" else "") + "}"
    kinds = {"PATCH": "application/json-patch+json"}
    content = {"PATCH": "[]", "POST": body, "PUT": body}.get(method)
    headers = {**who, "Content-Type": kinds.get(method, "application/fhir+json")}
    return await world.http.request(method, f"/fhir/{address}", content=content, headers=headers)


def _unsupported(answer: Any) -> bool:
    issues = answer.json().get("issue", []) if answer.content else []
    return any(one["code"] == "not-supported" for one in issues)


async def test_audit_events_are_searched_by_patient_and_nothing_else(world: World, rx1: Who) -> None:
    told = (await by_type(world))["AuditEvent"]
    assert [one["code"] for one in told["interaction"]] == ["search-type"]
    assert [one["name"] for one in told["searchParam"]] == ["patient"]
    await world.patient(rx1, "p1")
    assert (await world.get("AuditEvent?patient=Patient/p1", rx1)).status_code == 200
    for method, address in (("GET", "AuditEvent/x"), ("POST", "AuditEvent"), ("PUT", "AuditEvent/nothing")):
        answer = await _asked(world, rx1, method, address, "AuditEvent")
        assert answer.status_code in (403, 404, 405), f"{method}: {answer.text}"
    assert (await world.get("AuditEvent?date=2026", rx1)).status_code == 400


async def test_every_advertised_search_parameter_answers_and_no_other(world: World, rx1: Who) -> None:
    for kind, told in (await by_type(world)).items():
        if kind == "AuditEvent":
            continue
        advertised = {one["name"]: one for one in told["searchParam"]}
        assert len(advertised) == len(told["searchParam"]), f"{kind} advertises a parameter twice"
        known = parameters_of(kind)
        assert set(advertised) <= {*known, "_list", "_has", "_type", "_filter"}, kind
        for code, one in advertised.items():
            value = SPECIAL.get(code) or _value(known[code]) if code in known else SPECIAL.get(code, "x1")
            if code in known and known[code].type != "special":
                assert one["type"] == known[code].type, f"{kind}?{code}"
            query = parse_search(kind, [(code, value)], strict=True, base_url=world.base)
            assert query.used_pairs == ((code, value),)
        for code in set(known) - set(advertised):
            answer = await world.get(f"{kind}?{code}={_value(known[code])}", rx1, Prefer="handling=strict")
            assert answer.status_code == 400 and _unsupported(answer), f"{kind}?{code}: {answer.text}"


def _value(one: SearchParameter) -> str:
    if one.type != "composite":
        return VALUES[one.type]
    return "$".join(VALUES[component.type] for component in one.components)


@pytest.mark.parametrize("kind", ["Observation", "Patient", "Encounter", "Practitioner", "ValueSet"])
async def test_advertised_parameters_answer_over_http_as_well(world: World, rx1: Who, kind: str) -> None:
    known = parameters_of(kind)
    for one in (await by_type(world))[kind]["searchParam"]:
        code = one["name"]
        value = SPECIAL.get(code) or (_value(known[code]) if code in known else "x1")
        answer = await world.get(f"{kind}?{code}={value}", rx1, Prefer="handling=strict")
        # A search that would read everything may be refused as too costly: it is understood all the same.
        assert answer.status_code in (200, 422), f"{kind}?{code}: {answer.text}"
        if answer.status_code == 422:
            assert answer.json()["issue"][0]["code"] == "too-costly"


async def test_every_advertised_include_is_understood_and_no_other(world: World) -> None:
    for kind, told in (await by_type(world)).items():
        if kind == "AuditEvent":
            assert "searchInclude" not in told
            continue
        for name, member in (("_include", "searchInclude"), ("_revinclude", "searchRevInclude")):
            assert told[member][0] == "*"
            for value in told[member]:
                query = parse_search(kind, [(name, value)], strict=True)
                assert len(query.includes) == 1, f"{kind} {name}={value}"
        assert set(told["searchInclude"][1:]) == {f"{kind}:{code}" for code in reference_codes(kind)}
        others = {one for one in referring(kind) if not one.startswith("AuditEvent:")}
        assert set(told["searchRevInclude"][1:]) == others


async def test_every_advertised_operation_has_an_address_and_no_other(world: World, rx1: Who) -> None:
    told = (await statement(world))["rest"][0]
    system = {one["name"] for one in told.get("operation", ())}
    for kind, one in (await by_type(world)).items():
        advertised = {operation["name"] for operation in one.get("operation", ())}
        for name in sorted(EVERY_OPERATION):
            answers = [
                await world.get(f"{kind}/${name}", rx1),
                await world.get(f"{kind}/nothing/${name}", rx1),
                await world.post(f"{kind}/${name}", {"resourceType": "Parameters"}, rx1),
            ]
            answered = any(not _is_no_address(answer) for answer in answers)
            assert answered == (name in advertised), f"{kind}/${name}: {[one.text for one in answers]}"
    for name in sorted(EVERY_OPERATION):
        answer = await world.get(f"${name}", rx1)
        assert (not _is_no_address(answer)) == (name in system), f"${name}: {answer.text}"


EVERY_OPERATION = {
    "apply",
    "closure",
    "convert",
    "document",
    "everything",
    "expand",
    "export",
    "find-matches",
    "graphql",
    "lastn",
    "lookup",
    "match",
    "meta",
    "meta-add",
    "meta-delete",
    "process-message",
    "snapshot",
    "stats",
    "subsumes",
    "transform",
    "translate",
    "validate",
    "validate-code",
}


def _is_no_address(answer: Any) -> bool:
    """Answered like the address of an operation that nobody ever thought of."""
    return answer.status_code == 404 and "nothing at this address" in answer.text
