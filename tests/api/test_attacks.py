"""The curious colleague, the compromised app, another organisation's system: what they try, and what they get."""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.smart.clients import ClientRegister
from app.vocabulary import PurposeOfUse
from tests.world import DAVID, MARGARET, NHS, World, a_consent, a_patient, an_observation, denied_to

Who = dict[str, str]

PSYCHIATRIC = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}


def resources(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    """The matches of a searchset."""
    return [one["resource"] for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]


def link(bundle: dict[str, Any], relation: str = "next") -> str | None:
    found = [one["url"] for one in bundle["link"] if one["relation"] == relation]
    return found[0].split("/fhir/")[1] if found else None


async def _put(world: World, who: Who, id: str, patient: str, **more: Any) -> None:
    made = await world.put(f"Observation/{id}", an_observation(patient, id=id, **more), who)
    assert made.status_code in (200, 201), made.text


async def _consent(world: World, who: Who, patient: str, **provision: Any) -> None:
    made = await world.post("Consent", a_consent(patient, **provision), who)
    assert made.status_code == 201, made.text


async def _two_people(world: World, who: Who) -> None:
    await world.patient(who, "p1")
    await world.patient(who, "p2", DAVID, birthDate="1950-01-01")


def _by(patient: str) -> list[dict[str, str]]:
    return [{"reference": f"Patient/{patient}"}]


# A record about two people.


async def test_a_record_about_two_is_not_found_through_one_when_the_other_denies(
    world: World, rx1: Who, rx2: Who
) -> None:
    await _two_people(world, rx1)
    await _put(world, rx1, "o1", "p1", performer=_by("p2"))
    assert len(resources((await world.get("Observation?patient=p1", rx2)).json())) == 1
    await _consent(world, rx1, "p1", **denied_to("RX2"))
    assert (await world.get("Observation/o1", rx2)).status_code == 404
    assert resources((await world.get("Observation?performer=Patient/p2", rx2)).json()) == []
    everything = resources((await world.get("Patient/p2/$everything", rx2)).json())
    assert [one["resourceType"] for one in everything] == ["Patient"]


async def test_the_total_does_not_count_a_record_that_the_other_person_keeps_back(
    world: World, rx1: Who, rx2: Who
) -> None:
    await _two_people(world, rx1)
    await _put(world, rx1, "o1", "p1", performer=_by("p2"))
    await _put(world, rx1, "o2", "p1")
    await _put(world, rx1, "o3", "p1")
    await _consent(world, rx1, "p2", **denied_to("RX2"))
    for count, expected in ((20, 2), (2, 2), (1, 1)):
        bundle = (await world.get(f"Observation?patient=p1&_count={count}", rx2)).json()
        assert (bundle["total"], len(resources(bundle))) == (2, expected)
        assert (link(bundle) is None) == (count > 1)


async def test_an_old_version_that_named_a_second_person_asks_that_person_too(
    world: World, rx1: Who, rx2: Who
) -> None:
    await _two_people(world, rx1)
    await _put(world, rx1, "o1", "p1", performer=_by("p2"))
    await _put(world, rx1, "o1", "p1")
    await _consent(world, rx1, "p2", **denied_to("RX2"))
    assert (await world.get("Observation/o1", rx2)).status_code == 200
    assert (await world.get("Observation/o1/_history/1", rx2)).status_code == 404
    history = (await world.get("Observation/o1/_history", rx2)).json()
    assert (history["total"], len(history["entry"])) == (1, 1)


async def test_an_old_version_with_a_label_that_the_second_person_denies_stays_withheld(
    world: World, rx1: Who, rx2: Who
) -> None:
    await _two_people(world, rx1)
    await _put(world, rx1, "o1", "p1", performer=_by("p2"), meta={"security": [PSYCHIATRIC]})
    await _put(world, rx1, "o1", "p1", performer=_by("p2"))
    deny = {"type": "deny", "securityLabel": [PSYCHIATRIC]}
    await _consent(world, rx1, "p2", type="permit", provision=[deny])
    await _consent(world, rx1, "p1", type="permit")
    assert (await world.get("Observation/o1", rx2)).status_code == 200
    assert (await world.get("Observation/o1/_history/1", rx2)).status_code == 404


async def test_emergency_access_to_one_person_is_not_closed_by_a_record_about_two(
    world: World, rx1: Who
) -> None:
    await _two_people(world, rx1)
    await _put(world, rx1, "o1", "p1", performer=_by("p2"))
    await _put(world, rx1, "o2", "p1")
    emergency = await world.bearer("rx2", purpose=PurposeOfUse.ETREAT, emergency_for=MARGARET)
    for question in ("Observation?patient=p1", "Patient/p1/$everything", "Observation?code=8867-4"):
        answer = await world.get(question, emergency)
        assert answer.status_code == 200, question
        found = {one["id"] for one in resources(answer.json())}
        assert "o2" in found and "o1" not in found, question


async def test_a_person_with_two_records_in_one_trust_finds_a_shared_resource_once(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p1b")
    await _put(world, rx1, "o1", "p1", performer=_by("p1b"))
    bundle = (await world.get("Observation?patient=p1", rx1)).json()
    assert (bundle["total"], len(resources(bundle))) == (1, 1)
    everything = resources((await world.get("Patient/p1/$everything", rx1)).json())
    assert sorted(one["id"] for one in everything) == ["o1", "p1", "p1b"]


async def test_consent_of_the_second_person_between_pages_closes_the_next_page(
    world: World, rx1: Who, rx2: Who
) -> None:
    await _two_people(world, rx1)
    for place in range(3):
        await _put(world, rx1, f"o{place}", "p1", performer=_by("p2"))
    following = link((await world.get("Patient/p1/$everything?_count=1", rx2)).json())
    assert following is not None
    await _consent(world, rx1, "p2", **denied_to("RX2"))
    while following is not None:
        page = (await world.get(following, rx2)).json()
        assert [one["id"] for one in resources(page) if one["resourceType"] == "Observation"] == []
        following = link(page)


# Consents and the audit trail.


async def test_another_trust_learns_nothing_of_consents_it_does_not_keep(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    none = (await world.get("Consent?patient=p1&_count=1", rx2)).json()
    made = await world.put("Consent/c1", {**a_consent("p1", type="permit"), "id": "c1"}, rx1)
    assert made.status_code == 201
    await _consent(world, rx1, "p1", type="permit")
    some = (await world.get("Consent?patient=p1&_count=1", rx2)).json()
    assert (some["total"], resources(some), link(some)) == (none["total"], [], None)
    assert resources((await world.get("Consent?_id=c1", rx2)).json()) == []
    for path in ("Consent/c1", "Consent/c1/_history", "Consent/c1/_history/1"):
        assert (await world.get(path, rx2)).status_code == 404
    seen = resources((await world.get("Patient/p1/$everything", rx2)).json())
    assert [one["resourceType"] for one in seen] == ["Patient"]
    assert (await world.get("Consent?patient=p1", rx1)).json()["total"] == 2


async def test_the_audit_trail_is_not_told_to_who_keeps_no_record_of_the_patient(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    refused = await world.get("AuditEvent?patient=p1", rx2)
    unknown = await world.get("AuditEvent?patient=nobody", rx2)
    assert (refused.status_code, refused.content) == (unknown.status_code, unknown.content)
    assert refused.status_code == 403
    assert (await world.post("AuditEvent", {"resourceType": "AuditEvent"}, rx1)).status_code == 403


@pytest.mark.parametrize("query", ["_count=²", "_before=²", "_before=" + "9" * 40, "_count=" + "9" * 5000])
async def test_a_strange_page_of_the_audit_trail_is_a_bad_request(world: World, rx1: Who, query: str) -> None:
    await world.patient(rx1, "p1")
    assert (await world.get(f"AuditEvent?patient=p1&{query}", rx1)).status_code == 400


# A conditional write is no oracle.


async def test_criteria_of_a_conditional_create_count_only_what_the_writer_may_know(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "q1", DAVID, birthDate="1950-01-01")
    entries = [
        {"request": {"method": "POST", "url": "Observation"}, "resource": _parsed(an_observation("p1"))}
        for _ in range(101)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert (await world.post("", bundle, rx1)).status_code == 200
    body = an_observation("q1")
    made = await world.post("Observation", body, rx2, If_None_Exist="code=8867-4")
    again = await world.post("Observation", body, rx2, If_None_Exist="code=8867-4")
    assert (made.status_code, again.status_code) == (201, 200)


async def test_a_conditional_reference_does_not_find_another_trusts_patient(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")

    def bundle(nhs_number: str) -> dict[str, Any]:
        body = _parsed(an_observation("x"))
        body["subject"] = {"reference": f"Patient?identifier={NHS}|{nhs_number}"}
        entry = {"request": {"method": "POST", "url": "Observation"}, "resource": body}
        return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}

    known, unknown = [await world.post("", bundle(one), rx2) for one in (MARGARET, DAVID)]
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    assert known.status_code == 412


def _parsed(text: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(text)
    return body


# Emergency access, stopped clients, other people's page links.


async def test_emergency_access_for_another_does_not_tell_who_is_known(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    emergency = await world.bearer("rx2", purpose=PurposeOfUse.ETREAT, emergency_for=DAVID)
    for question in ("Observation?patient={}", "Patient/{}", "Patient/{}/$everything"):
        known = await world.get(question.format("p1"), emergency)
        unknown = await world.get(question.format("nobody"), emergency)
        assert (known.status_code, known.content) == (unknown.status_code, unknown.content), question


async def test_a_page_link_is_worth_nothing_to_a_stopped_client(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", DAVID, birthDate="1950-01-01")
    await _put(world, rx1, "o1", "p1")
    await _put(world, rx1, "o2", "p1")
    questions = (
        "Patient?family=Okafor&_count=1",
        "Observation?patient=p1&_count=1",
        "Patient/p1/$everything?_count=1",
    )
    links = [link((await world.get(one, rx2)).json()) for one in questions]
    await ClientRegister(world.owner).deactivate("rx2")
    for following in links:
        assert following is not None
        assert (await world.get(following, rx2)).status_code == 401
    for path in ("Patient/p1", "Patient/p1/_history", "Patient?family=Okafor", "AuditEvent?patient=p1"):
        assert (await world.get(path, rx2)).status_code == 401
    assert (await world.put("Patient/z", a_patient("z"), rx2)).status_code == 401


# Custody and identity.


async def test_a_record_does_not_move_to_another_patient(world: World, rx1: Who) -> None:
    await _two_people(world, rx1)
    await _put(world, rx1, "o1", "p1")
    moved = await world.put("Observation/o1", an_observation("p2", id="o1"), rx1)
    assert moved.status_code == 422
    await world.delete("Observation/o1", rx1)
    assert (await world.put("Observation/o1", an_observation("p2", id="o1"), rx1)).status_code == 422


async def test_a_patient_that_is_only_referred_to_belongs_to_who_referred(
    world: World, rx1: Who, rx2: Who
) -> None:
    assert (await world.post("Observation", an_observation("later"), rx1)).status_code == 201
    assert (await world.put("Patient/later", a_patient("later"), rx2)).status_code == 403
    assert (await world.put("Patient/later", a_patient("later"), rx1)).status_code == 201


@pytest.mark.parametrize("number", [DAVID, None])
async def test_a_consent_follows_its_patient_to_another_nhs_number(
    world: World, rx1: Who, rx2: Who, number: str | None
) -> None:
    await world.patient(rx1, "p1")
    await _put(world, rx1, "o1", "p1")
    await _consent(world, rx1, "p1", **denied_to("RX2"))
    assert (await world.get("Observation/o1", rx2)).status_code == 404
    await world.patient(rx1, "p1", number)
    assert (await world.get("Observation/o1", rx2)).status_code == 404
    assert (await world.get("Observation?patient=p1", rx2)).json()["total"] == 0
    await world.patient(rx1, "p1")
    assert (await world.get("Observation/o1", rx2)).status_code == 404


async def test_links_name_no_patient_that_is_withheld(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "p2")
    third = {"type": "permit", "provision": [{"type": "deny", "class": [_class("Patient")]}]}
    assert "p2" in (await world.get("Patient/p1", rx1)).text
    await _consent(world, rx1, "p1", **third)
    assert (await world.get("Patient/p1", rx1)).status_code == 404
    await world.delete("Patient/p2", rx2)
    assert "p2" not in (await world.get("Patient/p1", rx1)).text


def _class(resource_type: str) -> dict[str, str]:
    return {"system": "http://hl7.org/fhir/resource-types", "code": resource_type}


# One entry for every answer.


@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [
        ("Observation/o1", 200, {}),
        ("Observation/o1", 304, {"If-None-Match": '*, W/"1"'}),
        ("Observation/o1", 406, {"Accept": "text/html"}),
        ("Observation/none", 404, {}),
        ("Nonsense/o1", 404, {}),
        ("Observation/o1/_history", 200, {}),
        ("Observation/o1/_history/0", 404, {}),
        ("Observation?patient=p1", 200, {}),
        ("Observation?patient=p1&_count=0", 200, {}),
        ("Observation?patient=p1&date=x", 400, {}),
        ("Observation?patient=nobody", 200, {}),
        ("Observation?code=8867-4&_count=0", 200, {}),
        ("Patient/p1/$everything", 200, {}),
        ("Patient/nobody/$everything", 404, {}),
        ("Patient/p1/$everything?_type=x", 400, {}),
        ("AuditEvent?patient=p1", 200, {}),
        ("AuditEvent?patient=p1&x=y", 400, {}),
        ("_page?_cursor=broken", 400, {}),
        ("_page", 400, {}),
    ],
)
async def test_every_question_leaves_one_entry(
    world: World, rx1: Who, path: str, status: int, headers: dict[str, str]
) -> None:
    await world.patient(rx1, "p1")
    await _put(world, rx1, "o1", "p1")
    before = len(await world.audit())
    answer = await world.http.get(f"/fhir/{path}", headers={**rx1, **headers})
    assert answer.status_code == status, answer.text
    assert len(await world.audit()) == before + 1


async def test_every_refused_write_leaves_one_entry(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await _put(world, rx1, "o1", "p1")
    text = an_observation("p1", id="o1", value="1")
    refused: list[tuple[Callable[[], Awaitable[httpx.Response]], int]] = [
        (lambda: world.put("Observation/o1", text, rx1, If_Match='W/"7"'), 412),
        (lambda: world.put("Observation/o1", text, rx1, If_None_Match="*"), 412),
        (lambda: world.put("Observation/o1", text, rx2), 403),
        (lambda: world.put("Observation/o1", "{", rx1), 400),
        (lambda: world.delete("Observation/o1", rx2), 403),
        (lambda: world.post("Observation", text, rx1, Content_Type="text/plain"), 415),
        (lambda: world.post("Observation", text, rx1, If_None_Exist="foo=bar"), 400),
        (lambda: world.post("", {"resourceType": "Bundle", "type": "x"}, rx1), 400),
    ]
    for ask, status in refused:
        before = len(await world.audit())
        assert (await ask()).status_code == status
        assert len(await world.audit()) == before + 1, status


async def test_every_entry_of_a_batch_leaves_its_own(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    urls = ["Patient/p1", "Patient/nobody", "Nonsense/p1", "Observation?date=x", "Patient/p1?x=y"]
    entries = [{"request": {"method": "GET", "url": url}} for url in urls]
    entries.append({"request": {"method": "POST", "url": "Patient/p1"}})
    entries.append({"request": {"method": "PATCH", "url": "Patient/p1"}})
    before = len(await world.audit())
    answer = await world.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries}, rx1)
    statuses = [one["response"]["status"][:3] for one in answer.json()["entry"]]
    assert statuses == ["200", "404", "404", "400", "400", "405", "400"]
    assert len(await world.audit()) == before + len(entries)


# Whatever is sent is answered.

ODD: list[Any] = [None, 0, 1.5, "", "x", "²", "\t", [], [None], {}, {"a": []}, "Patient/p1", "?", "_id=%00"]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_an_odd_bundle_is_answered(world: World, rx1: Who, kind: str) -> None:
    await world.patient(rx1, "p1")
    for odd in ODD:
        for name in ("ifNoneExist", "ifMatch", "method", "url"):
            request = {"method": "POST", "url": "Observation", name: odd}
            await _answered(world, rx1, kind, {"request": request, "resource": _parsed(an_observation("p1"))})
            request = {"method": "PUT", "url": "Observation/o1", name: odd}
            body = _parsed(an_observation("p1", id="o1"))
            await _answered(world, rx1, kind, {"request": request, "resource": body})
        for entry in (
            odd,
            {"request": odd},
            {"fullUrl": odd, "request": {"method": "POST", "url": "Patient"}, "resource": odd},
            {
                "fullUrl": odd,
                "request": {"method": "POST", "url": "Patient"},
                "resource": {"resourceType": "Patient"},
            },
        ):
            await _answered(world, rx1, kind, entry)
        whole = await world.post("", {"resourceType": "Bundle", "type": kind, "entry": odd}, rx1)
        assert whole.status_code < 500


async def _answered(world: World, who: Who, kind: str, entry: Any) -> None:
    answer = await world.post("", {"resourceType": "Bundle", "type": kind, "entry": [entry]}, who)
    assert answer.status_code < 500, (entry, answer.text)
    if kind == "batch" and answer.status_code == 200:
        [one] = answer.json()["entry"]
        assert one["response"]["status"] < "500", (entry, answer.text)


_NAMES = st.sampled_from(
    [
        *(
            "patient",
            "subject",
            "code",
            "date",
            "_id",
            "_count",
            "_sort",
            "_lastUpdated",
            "identifier",
            "name",
        ),
        *(
            "_tag",
            "value-quantity",
            "patient:identifier",
            "name:exact",
            "_security",
            "_cursor",
            "_format",
            ":",
        ),
        *("_filter", "_text", "_content", "phonetic", "near", "performer:below"),
    ]
)
_VALUES = st.text(max_size=12) | st.sampled_from(
    [
        *("p1", "Patient/p1", "0", "-date", "gt9999-12-31", "lt0001", "eq0000", "9999-12-31T23:59:60Z", "|"),
        *("http://x|", ",", "\\", "\\,", "$", "ap2026", "ap0001-01-01", "ap9999-12-31", "_id", "1e999"),
        *(
            "code eq a",
            "not(_id eq o1)",
            'code eq "\\u0000"',
            "a[b",
            "(a or b) -c*",
            '"a b',
            "1|2|3|km",
            "0|0|1e9|pm",
        ),
        *('_text eq "a" or near eq 1', "birthdate po 9999", 'name gt "\\ud800"', "not(", "x pr false"),
    ]
)


def _odd_questions() -> list[str]:
    asked: list[str] = []

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(
        st.sampled_from(
            ["Observation", "Patient", "Consent", "AuditEvent", "_page", "Patient/p1/$everything"]
        ),
        st.lists(st.tuples(_NAMES, _VALUES), max_size=4),
    )
    def draw(address: str, pairs: list[tuple[str, str]]) -> None:
        query = urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs])
        asked.append(f"{address}?{query}")

    draw()
    return asked


async def test_an_odd_question_is_answered(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await _put(world, rx1, "o1", "p1")
    failed = [one for one in _odd_questions() if (await world.get(one, rx1)).status_code >= 500]
    assert failed == []


_EXTREMES: list[Any] = [
    None, 0, -1, 10**30, 1e300, 1e-300, "", " ", "0001", "9999-12-31", "9999-12-31T23:59:59.999999999Z", "x" * 9000,
    "\u20ac" * 3000, "\x00", "Patient/p1", "#", "urn:uuid:", "http://node.test/fhir/Patient/p1", [], [[]], {},
    {"a": 1}, True,
]  # fmt: skip


async def test_an_odd_resource_is_answered(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    failed = []
    for kind, body in (
        ("Observation", {**_parsed(an_observation("p1")), "meta": {"security": [PSYCHIATRIC], "tag": []}}),
        ("Patient", a_patient("x", DAVID)),
        ("Consent", a_consent("p1", **denied_to("RX2"))),
    ):
        for path in _leaves(body):
            for odd in _EXTREMES:
                answer = await world.post(kind, json.dumps(_changed(body, path, odd)), rx1)
                if answer.status_code >= 500:
                    failed.append((kind, path, str(odd)[:40], answer.status_code))
    assert failed == []


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for key, part in inner for one in _leaves(part, (*path, key)))]


def _changed(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    if not path:
        return odd
    made = value.copy()
    made[path[0]] = _changed(value[path[0]], path[1:], odd)
    return made


async def test_odd_headers_are_answered(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    text = _parsed(an_observation("p1", id="o1"))
    await world.put("Observation/o1", text, rx1)
    names = ["If-Match", "If-None-Match", "If-None-Exist", "Prefer", "traceparent", "X-Request-Id", "Accept"]
    for name in [*names, "Content-Length", "Content-Type", "If-Modified-Since"]:
        for odd in (
            b"",
            b"\xb2",
            b"\xff" * 9,
            b"*",
            b'W/""',
            b",;=",
            b"9" * 5000,
            b"?",
            b"code=a\xb2",
            b"_id=%00",
        ):
            given = {"content-type": "application/fhir+json", **{k.lower(): v for k, v in rx1.items()}}
            headers = [(k.encode(), v.encode()) for k, v in given.items() if k != name.lower()]
            headers.append((name.encode(), odd))
            body = json.dumps(text).encode()
            for method, path in (
                ("GET", "Observation/o1"),
                ("PUT", "Observation/o1"),
                ("POST", "Observation"),
            ):
                answer = await world.http.request(
                    method, f"/fhir/{path}", headers=headers, content=body if method != "GET" else None
                )
                assert answer.status_code < 500, (name, odd, method)


async def test_a_stranger_without_a_good_token_is_told_nothing(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for token in (b"", b"Bearer", b"Bearer \xb2", b"Basic x", b"Bearer a.b.c", b"Bearer " + b"x." * 5000):
        for path in ("Patient/p1", "Patient/nobody", "Patient/p1/$everything", "Observation?patient=p1"):
            answer = await world.http.get(f"/fhir/{path}", headers=[(b"authorization", token)])
            assert answer.status_code == 401
            assert "p1" not in answer.text


async def test_a_found_conditional_create_is_recorded_for_its_patient(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    body = an_observation("p1", identifier=[{"system": "urn:x", "value": "1"}])
    for status in (201, 200):
        answer = await world.post("Observation", body, rx1, If_None_Exist="identifier=urn:x|1")
        assert answer.status_code == status
        assert "Patient/p1" in json.dumps((await world.audit())[-1])


async def test_a_record_about_two_stands_in_both_their_audit_trails(world: World, rx1: Who, rx2: Who) -> None:
    await _two_people(world, rx1)
    await _put(world, rx1, "o1", "p1", performer=_by("p2"))
    for path in (
        "Observation/o1",
        "Observation/o1/_history/1",
        "Observation/o1/_history",
        "Observation?patient=p1",
        "Patient/p1/$everything",
    ):
        before = len(await world.audit())
        assert (await world.get(path, rx2)).status_code == 200
        told = [json.dumps(one) for one in (await world.audit())[before:]]
        assert len(told) == 2, path
        for number in (MARGARET, DAVID):
            [own] = [one for one in told if number in one]
            assert "Observation/o1" in own


async def test_the_audit_trail_in_a_batch_is_the_trail_and_for_its_keeper_only(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    entry = {"request": {"method": "GET", "url": "AuditEvent?patient=p1"}}
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    [own] = (await world.post("", batch, rx1)).json()["entry"]
    assert {one["resource"]["resourceType"] for one in own["resource"]["entry"]} == {"AuditEvent"}
    [others] = (await world.post("", batch, rx2)).json()["entry"]
    assert others["response"]["status"].startswith("403")
