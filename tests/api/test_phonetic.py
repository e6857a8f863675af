"""``phonetic`` finds people by how their names sound (R4 Patient, phonetic)."""

from urllib.parse import quote

import pytest

from tests.world import World, a_consent, a_patient

Who = dict[str, str]

NUMBERS = {"a": "9990000018", "b": "9990000026", "c": "9990000034"}
NAMES = {"a": ("Smith", "Catherine"), "b": ("Smyth", "Steven"), "c": ("Jones", "Kathryn")}


async def record(world: World, who: Who) -> None:
    for id, (family, given) in NAMES.items():
        name = [{"family": family, "given": [given]}]
        made = await world.put(f"Patient/{id}", a_patient(id, NUMBERS[id], name=name), who)
        assert made.status_code == 201, made.text


async def ids(world: World, who: Who, question: str) -> str:
    answer = await world.get(question, who, Prefer="handling=strict")
    assert answer.status_code == 200, answer.text
    found = answer.json().get("entry", [])
    return " ".join(sorted(one["resource"]["id"] for one in found if one["search"]["mode"] == "match"))


async def test_people_are_found_by_the_sound_of_their_names(world: World, rx1: Who) -> None:
    await record(world, rx1)
    for asked, expected in {
        "phonetic=smith": "a b",
        "phonetic=SMYTHE": "a b",
        "phonetic=cathryn": "a c",
        "phonetic=cathryn smith": "a",
        "phonetic=cathryn,stephen": "a b c",
        "phonetic=cathryn&phonetic=jones": "c",
        "phonetic=brown": "",
        "phonetic:missing=true": "",
        "phonetic:missing=false": "a b c",
        f"_filter={quote('phonetic eq smith and not(phonetic eq steven)')}": "a",
    }.items():
        assert await ids(world, rx1, f"Patient?{asked}") == expected, asked
    assert await ids(world, rx1, "Patient?_id=b&phonetic=smith") == "b"
    observation = {"resourceType": "Observation", "id": "o1", "status": "final", "code": {"text": "x"}}
    await world.put("Observation/o1", {**observation, "subject": {"reference": "Patient/b"}}, rx1)
    assert await ids(world, rx1, "Observation?subject:Patient.phonetic=smith") == "o1"


async def test_who_is_withheld_is_found_by_no_sound(world: World, rx1: Who, rx2: Who) -> None:
    await record(world, rx1)
    assert (await world.post("Consent", a_consent("b", type="deny"), rx1)).status_code == 201
    assert await ids(world, rx2, "Patient?phonetic=smith") == "a"
    assert await ids(world, rx2, "Patient?phonetic=stephen") == ""


@pytest.mark.parametrize("asked", ["phonetic:exact=x", "phonetic:contains=x", "phonetic=-", "_sort=phonetic"])
async def test_a_sound_is_nothing_else(asked: str, world: World, rx1: Who) -> None:
    assert (await world.get(f"Patient?{asked}", rx1, Prefer="handling=strict")).status_code == 400
