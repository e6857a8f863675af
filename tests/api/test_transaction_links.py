"""References between the entries of a transaction, and to what a search finds (R4 http, 3.1.0.11.2)."""

from itertools import pairwise
from typing import Any

import pytest

from tests.bundles import done, entry, expressions, fhirpath_patch, json_patch, sent, statuses
from tests.world import DAVID, MARGARET, NHS, World, a_consent, denied_to

Who = dict[str, str]
URN = "urn:uuid:00000000-0000-4000-8000-000000000001"
OTHER = "urn:oid:1.2.3.4.5"
XHTML = "http://www.w3.org/1999/xhtml"
ELSEWHERE = "http://elsewhere.example/fhir"


def a_practitioner(value: str = "7", **more: Any) -> dict[str, Any]:
    return {"resourceType": "Practitioner", "identifier": [{"system": "urn:gmc", "value": value}], **more}


def observed(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p1"},
        **more,
    }


def by(reference: str) -> dict[str, Any]:
    return {"performer": [{"reference": reference}]}


def performer(answer: dict[str, Any]) -> str:
    return str(answer["resource"]["performer"][0]["reference"])


def here(answer: dict[str, Any]) -> str:
    resource = answer["resource"]
    return f"{resource['resourceType']}/{resource['id']}"


async def kept(world: World, who: Who, type: str = "Practitioner") -> int:
    return len((await world.get(f"{type}?_lastUpdated=gt2000", who)).json().get("entry", []))


@pytest.mark.parametrize(
    ("full_url", "reference", "becomes"),
    [
        (URN, URN, "{here}"),
        (OTHER, OTHER, "{here}"),
        (f"{ELSEWHERE}/Practitioner/0", f"{ELSEWHERE}/Practitioner/0", "{here}"),
        (f"{ELSEWHERE}/Practitioner/0", "Practitioner/0", "{here}"),
        (f"{ELSEWHERE}/Practitioner/0", f"{ELSEWHERE}/Practitioner/0/_history/9", "{here}/_history/1"),
        (f"{ELSEWHERE}/Practitioner/0", "Practitioner/0/_history/9", "{here}/_history/1"),
        (URN, f"{URN}/_history/3", "{here}/_history/1"),
        (f"{ELSEWHERE}/Practitioner/0", f"{ELSEWHERE}/Practitioner/00", f"{ELSEWHERE}/Practitioner/00"),
        (f"{ELSEWHERE}/Practitioner/0", "http://other.example/fhir/Practitioner/0", None),
    ],
)
async def test_a_reference_to_another_entry_becomes_one_to_where_it_is_kept(
    world: World, rx1: Who, full_url: str, reference: str, becomes: str | None
) -> None:
    await world.patient(rx1, "p1")
    answers = await done(
        world,
        rx1,
        entry("POST", "Observation", observed(**by(reference)), full_url=f"{ELSEWHERE}/Observation/1"),
        entry("POST", "Practitioner", a_practitioner(), full_url=full_url),
    )
    assert performer(answers[0]) == (becomes or reference).format(here=here(answers[1]))


async def test_a_relative_reference_of_an_entry_that_has_no_root_means_what_is_here(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    answers = await done(
        world,
        rx1,
        entry("POST", "Observation", observed(**by("Practitioner/0")), full_url=URN),
        entry("POST", "Practitioner", a_practitioner(), full_url=f"{ELSEWHERE}/Practitioner/0"),
        entry("POST", "Practitioner", a_practitioner("8"), full_url="http://third.example/Practitioner/0"),
    )
    assert performer(answers[0]) == "Practitioner/0"


async def test_links_are_rewritten_wherever_r4_says_and_nowhere_else(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    observation = observed(
        text={
            "status": "additional",
            "div": f'<div xmlns="{XHTML}"><a href="{URN}">x</a><img alt="y" src="{URN}"/> {URN}</div>',
        },
        extension=[
            {"url": "urn:x", "valueReference": {"reference": URN}},
            {"url": "urn:x", "valueUri": URN},
            {"url": "urn:x", "valueCanonical": URN},
            {"url": "urn:x", "valueString": URN},
            {"url": "urn:x", "valueAttachment": {"url": URN}},
        ],
        contained=[
            {
                "resourceType": "Provenance",
                "id": "c",
                "recorded": "2026-01-01T00:00:00Z",
                "target": [{"reference": URN}],
                "agent": [{"who": {"display": URN}}],
            }
        ],
        derivedFrom=[{"reference": URN}],
        note=[{"text": URN}],
        focus=[{"reference": "#c"}],
    )
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="}
    answers = await done(
        world, rx1, entry("POST", "Observation", observation), entry("POST", "Binary", binary, full_url=URN)
    )
    found, to = answers[0]["resource"], here(answers[1])
    assert found["text"]["div"].endswith(f'<a href="{to}">x</a><img alt="y" src="{to}"/> {URN}</div>')
    values = [next(value for name, value in one.items() if name != "url") for one in found["extension"]]
    assert values == [{"reference": to}, to, URN, URN, {"url": to}]
    assert found["contained"][0]["target"][0]["reference"] == to
    assert found["contained"][0]["agent"][0]["who"]["display"] == URN
    assert (found["derivedFrom"][0]["reference"], found["note"][0]["text"]) == (to, URN)
    assert found["focus"][0]["reference"] == "#c"


async def test_circles_are_rewritten_on_all_sides(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    answers = await done(
        world,
        rx1,
        entry("POST", "Observation", observed(derivedFrom=[{"reference": OTHER}]), full_url=URN),
        entry("POST", "Observation", observed(hasMember=[{"reference": URN}]), full_url=OTHER),
    )
    assert answers[0]["resource"]["derivedFrom"][0]["reference"] == here(answers[1])
    assert answers[1]["resource"]["hasMember"][0]["reference"] == here(answers[0])


async def test_an_address_of_our_own_and_its_versions_stay_as_they_are_written(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    own = f"{world.base}/Practitioner/d1"
    answers = await done(
        world,
        rx1,
        entry("PUT", "Practitioner/d1", a_practitioner(id="d1"), full_url=own),
        entry("POST", "Observation", observed(**by(own))),
        entry("POST", "Observation", observed(**by(f"{own}/_history/4"))),
        entry("POST", "Observation", observed(**by("Practitioner/d1/_history/4"))),
    )
    told = [performer(one) for one in answers[1:]]
    assert told == [own, f"{own}/_history/4", "Practitioner/d1/_history/4"]


async def test_a_version_of_what_is_updated_is_the_one_that_it_gets(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("Practitioner/d1", a_practitioner(id="d1"), rx1)
    provenance = {
        "resourceType": "Provenance",
        "target": [{"reference": f"{URN}/_history/1"}],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"reference": f"{ELSEWHERE}/Organization/o"}}],
    }
    for more, version in (({"active": True}, 2), ({"active": True}, 2), ({"gender": "other"}, 3)):
        answers = await done(
            world,
            rx1,
            entry("POST", "Provenance", provenance),
            entry("PUT", "Practitioner/d1", a_practitioner(id="d1", **more), full_url=URN),
        )
        target = answers[0]["resource"]["target"][0]["reference"]
        assert target == f"Practitioner/d1/_history/{version}"


async def test_updates_that_name_each_others_versions_get_those_that_they_are_about_to_have(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    answers = await done(
        world,
        rx1,
        entry(
            "PUT",
            "Observation/a",
            observed(id="a", hasMember=[{"reference": f"{OTHER}/_history/1"}]),
            full_url=URN,
        ),
        entry(
            "PUT",
            "Observation/b",
            observed(id="b", hasMember=[{"reference": f"{URN}/_history/1"}]),
            full_url=OTHER,
        ),
    )
    told = [one["resource"]["hasMember"][0]["reference"] for one in answers]
    assert told == ["Observation/b/_history/1", "Observation/a/_history/1"]


async def test_what_a_conditional_create_finds_is_what_is_referred_to(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    entries = [
        entry("POST", "Observation", observed(**by(URN))),
        entry("POST", "Practitioner", a_practitioner(), full_url=URN, ifNoneExist="identifier=urn:gmc|7"),
    ]
    first = await done(world, rx1, *entries)
    second = await done(world, rx1, *entries)
    assert statuses(first) == ["201", "201"] and statuses(second) == ["201", "200"]
    assert performer(second[0]) == performer(first[0]) == here(first[1])
    assert await kept(world, rx1) == 1


async def test_a_patch_brings_references_of_the_transaction(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for id in ("a", "b"):
        await world.put(f"Observation/{id}", observed(id=id), rx1)
    added = {"op": "add", "path": "/performer", "value": [{"reference": URN}]}
    searched = {
        "op": "add",
        "path": "/performer/-",
        "value": {"reference": "Practitioner?identifier=urn:gmc|7"},
    }
    answers = await done(
        world,
        rx1,
        entry("POST", "Practitioner", a_practitioner(), full_url=URN),
        entry("PATCH", "Observation/a", json_patch(added, searched)),
        entry(
            "PATCH",
            "Observation/b",
            fhirpath_patch(
                "add",
                "Observation",
                name={"valueString": "performer"},
                value={"valueReference": {"reference": URN}},
            ),
        ),
    )
    to = here(answers[0])
    assert [one["reference"] for one in answers[1]["resource"]["performer"]] == [to, to]
    assert performer(answers[2]) == to


async def test_what_is_patched_is_referred_to_by_its_full_url(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("Practitioner/d1", a_practitioner(id="d1"), rx1)
    answers = await done(
        world,
        rx1,
        entry("POST", "Observation", observed(**by(URN))),
        entry("POST", "Observation", observed(**by(f"{URN}/_history/1"))),
        entry(
            "PATCH",
            "Practitioner?identifier=urn:gmc|7",
            json_patch({"op": "add", "path": "/active", "value": True}),
            full_url=URN,
        ),
    )
    assert [performer(one) for one in answers[:2]] == ["Practitioner/d1", "Practitioner/d1/_history/2"]


async def test_bundles_in_xml_are_the_same(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    text = f"""<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/>
      <entry><fullUrl value="{URN}"/><resource><Practitioner>
        <identifier><system value="urn:gmc"/><value value="7"/></identifier></Practitioner></resource>
        <request><method value="POST"/><url value="Practitioner"/></request></entry>
      <entry><resource><Observation>
        <text><status value="additional"/><div xmlns="http://www.w3.org/1999/xhtml"><a href="{URN}">x</a></div></text>
        <extension url="urn:x"><valueReference><reference value="{URN}"/></valueReference></extension>
        <status value="final"/><code><text value="{URN}"/></code>
        <subject><reference value="Patient?identifier={NHS}|{MARGARET}"/></subject>
        <performer><reference value="Practitioner?identifier=urn:gmc|7"/></performer>
        <valueQuantity><value value="6.30"/></valueQuantity></Observation></resource>
        <request><method value="POST"/><url value="Observation"/></request></entry>
      <entry><resource><Binary><contentType value="application/json-patch+json"/>
        <data value="W3sib3AiOiJhZGQiLCJwYXRoIjoiL2FjdGl2ZSIsInZhbHVlIjp0cnVlfV0="/></Binary></resource>
        <request><method value="PATCH"/><url value="Patient/p1"/></request></entry>
      <entry><request><method value="GET"/><url value="Patient/p1"/></request></entry></Bundle>"""
    answer = await world.http.post(
        "/fhir",
        content=text,
        headers={**rx1, "Content-Type": "application/fhir+xml", "Accept": "application/fhir+json"},
    )
    assert answer.status_code == 200, answer.text
    entries = answer.json()["entry"]
    assert statuses(entries) == ["201", "201", "200", "200"]
    found, to = entries[1]["resource"], here(entries[0])
    assert f'href="{to}"' in found["text"]["div"] and found["code"]["text"] == URN
    assert found["extension"][0]["valueReference"]["reference"] == performer(entries[1]) == to
    assert found["subject"]["reference"] == "Patient/p1" and '"value":6.30' in answer.text
    assert entries[3]["resource"]["active"] is True
    as_xml = await world.http.post(
        "/fhir", content=text, headers={**rx1, "Content-Type": "application/fhir+xml"}
    )
    assert as_xml.status_code == 412, as_xml.text  # by now two match


# References that are searches.


@pytest.mark.parametrize(
    "reference",
    [
        "Practitioner?identifier=urn:gmc|7",
        "Practitioner?identifier=urn%3Agmc%7C7",
        "Practitioner?identifier=urn:gmc|7&_format=json",
        "{base}/Practitioner?identifier=urn:gmc|7",
    ],
)
async def test_the_one_that_matches_is_referred_to(world: World, rx1: Who, reference: str) -> None:
    await world.patient(rx1, "p1")
    await world.post("Practitioner", a_practitioner("8"), rx1)
    there = (await world.post("Practitioner", a_practitioner(), rx1)).json()["id"]
    [answer] = await done(
        world, rx1, entry("POST", "Observation", observed(**by(reference.format(base=world.base))))
    )
    assert performer(answer) == f"Practitioner/{there}"


@pytest.mark.parametrize(
    ("reference", "status"),
    [
        ("Practitioner?identifier=urn:gmc|none", 412),
        ("Practitioner?identifier=urn:gmc|7", 412),
        ("Practitioner?identifer=urn:gmc|8", 400),
        ("Practitioner?", 400),
        ("Practitioner?_count=1", 400),
        ("practitioner?identifier=urn:gmc|8", 400),
        ("Nonsense?identifier=urn:gmc|8", 400),
    ],
)
async def test_none_several_and_nonsense_fail_the_whole_and_name_the_entry(
    world: World, rx1: Who, reference: str, status: int
) -> None:
    await world.patient(rx1, "p1")
    for value in ("7", "7", "8"):
        await world.post("Practitioner", a_practitioner(value), rx1)
    before = await kept(world, rx1, "Observation")
    answer = await sent(
        world,
        rx1,
        entry("PUT", "Observation/o1", observed(id="o1")),
        entry("POST", "Observation", observed(**by(reference))),
    )
    assert answer.status_code == status, answer.text
    assert expressions(answer)[0].startswith("Bundle.entry[1]")
    assert await kept(world, rx1, "Observation") == before
    assert "urn:gmc" not in answer.text


async def test_a_search_finds_what_the_transaction_brings_and_not_what_it_deletes(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    referring = entry("POST", "Observation", observed(**by("Practitioner?identifier=urn:gmc|7")))
    answers = await done(world, rx1, referring, entry("POST", "Practitioner", a_practitioner()))
    assert performer(answers[0]) == here(answers[1])
    deleted = await sent(world, rx1, referring, entry("DELETE", here(answers[1])))
    assert deleted.status_code == 412
    replaced = await done(
        world,
        rx1,
        referring,
        entry("DELETE", here(answers[1])),
        entry("POST", "Practitioner", a_practitioner()),
    )
    assert performer(replaced[0]) == here(replaced[2])


async def test_a_second_match_that_the_transaction_itself_brings_fails_it(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.post("Practitioner", a_practitioner(), rx1)
    referring = entry("POST", "Observation", observed(**by("Practitioner?identifier=urn:gmc|7")))
    brought = await sent(world, rx1, referring, entry("POST", "Practitioner", a_practitioner()))
    assert (brought.status_code, expressions(brought)) == (412, ["Bundle.entry[0]"])
    # Also one that was itself kept only after a search.
    late = a_practitioner(
        qualification=[{"code": {"text": "x"}, "issuer": {"reference": "Organization?name=y"}}]
    )
    answer = await sent(
        world,
        rx1,
        referring,
        entry("POST", "Practitioner", late),
        entry("POST", "Organization", {"resourceType": "Organization", "name": "y"}),
    )
    assert (answer.status_code, expressions(answer)) == (412, ["Bundle.entry[0]"])


async def test_a_search_may_find_what_waited_for_a_search_itself(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    answers = await done(
        world,
        rx1,
        *(
            entry(
                "POST",
                "Observation",
                observed(
                    identifier=[{"system": "urn:lab", "value": str(n)}],
                    **(
                        {"derivedFrom": [{"reference": f"Observation?identifier=urn:lab|{n + 1}"}]}
                        if n < 3
                        else {}
                    ),
                ),
            )
            for n in range(4)
        ),
    )
    for one, next_one in pairwise(answers):
        assert one["resource"]["derivedFrom"][0]["reference"] == here(next_one)


async def test_searches_of_each_other_are_refused(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    answer = await sent(
        world,
        rx1,
        *(
            entry(
                "POST",
                "Observation",
                observed(
                    identifier=[{"system": "urn:lab", "value": str(n)}],
                    derivedFrom=[{"reference": f"Observation?identifier=urn:lab|{1 - n}"}],
                ),
            )
            for n in range(2)
        ),
    )
    assert (answer.status_code, expressions(answer)) == (412, ["Bundle.entry[0]"])


async def test_a_withheld_match_is_none(world: World, rx1: Who) -> None:
    """Of one's own records too: the answer is byte for byte that for a number nobody has."""
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", DAVID, birthDate="1960-01-01")

    def about(number: str) -> dict[str, Any]:
        return entry(
            "POST", "Observation", observed(subject={"reference": f"Patient?identifier={NHS}|{number}"})
        )

    [answer] = await done(world, rx1, about(DAVID))
    assert answer["resource"]["subject"]["reference"] == "Patient/p2"
    await world.post("Consent", a_consent("p2", **denied_to("RX1")), rx1)
    hidden, absent = [await sent(world, rx1, about(number)) for number in (DAVID, "9990000034")]
    assert hidden.status_code == 412
    assert hidden.content == absent.content and set(hidden.headers) == set(absent.headers)


async def test_anothers_patient_is_never_meant(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "theirs")
    answers = await done(
        world,
        rx1,
        entry("POST", "Observation", observed(subject={"reference": f"Patient?identifier={NHS}|{MARGARET}"})),
    )
    assert answers[0]["resource"]["subject"]["reference"] == "Patient/p1"


@pytest.mark.parametrize(
    "scope",
    [
        "system/Observation.c",
        "system/Observation.c system/Practitioner.s",
        "system/Observation.c system/Practitioner.r",
    ],
)
async def test_a_search_obeys_the_scopes(world: World, rx1: Who, scope: str) -> None:
    await world.patient(rx1, "p1")
    await world.post("Practitioner", a_practitioner(), rx1)
    narrow = await world.bearer("rx1", scope=scope)
    referring = entry("POST", "Observation", observed(**by("Practitioner?identifier=urn:gmc|7")))
    answer = await sent(world, narrow, referring)
    assert (answer.status_code, expressions(answer)) == (403, ["Bundle.entry[0]"])
    enough = await world.bearer("rx1", scope="system/Observation.c system/Practitioner.rs")
    assert statuses(await done(world, enough, referring)) == ["201"]


async def test_a_question_in_a_text_is_no_search(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    note = [{"text": "Patient?identifier=1"}]
    [answer] = await done(world, rx1, entry("POST", "Observation", observed(note=note)))
    assert answer["resource"]["note"] == note


async def test_a_batch_resolves_nothing_and_refuses_what_refers_to_what_another_entry_creates(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    answers = await done(
        world,
        rx1,
        entry("POST", "Observation", observed(**by(URN))),
        entry("POST", "Practitioner", a_practitioner(), full_url=URN),
        kind="batch",
    )
    assert statuses(answers) == ["400", "201"]
    assert answers[0]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[0]"]


async def test_many_entries_share_one_search(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    there = (await world.post("Practitioner", a_practitioner(), rx1)).json()["id"]
    referring = entry("POST", "Observation", observed(**by("Practitioner?identifier=urn:gmc|7")))
    answers = await done(world, rx1, *([referring] * 120))
    assert {performer(one) for one in answers} == {f"Practitioner/{there}"}
