"""Names are found by how their words sound, whatever their spelling, accents and case (R4 Patient, phonetic)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MalformedSearch
from app.fhir.criteria import AnyCriterion, EveryCriterion, TokenCriterion, sounding
from app.fhir.indexing import extract
from app.fhir.sounds import sound_key, sounds_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Smith", "smyth"),
        ("Catherine", "KATHRYN"),
        ("Stephen", "Steven"),
        ("Muhammad", "Mohammed"),
        ("O'Brien", "OBrien"),
        ("O\N{RIGHT SINGLE QUOTATION MARK}Brien", "O'Brian"),
        ("Jürgen", "Jurgen"),
        ("Wright", "Rite"),
        ("Смирнов", "смирнов"),
    ],
)
def test_names_that_sound_alike_have_the_same_sound(one: str, other: str) -> None:
    assert sounds_of(one) == sounds_of(other) != ()


@pytest.mark.parametrize(
    ("one", "other"), [("Smith", "Jones"), ("李", "王"), ("2", "3"), ("Клюев", "Смирнов")]
)
def test_names_that_do_not_have_another(one: str, other: str) -> None:
    assert sounds_of(one) != sounds_of(other)


def test_every_word_has_a_sound_of_its_own() -> None:
    assert len(sounds_of("Anne-Marie van der Berg")) == 5
    assert sounds_of("Smith Smyth") == sounds_of("Smith")
    assert sounds_of(" -' ") == ()


@given(st.text())
def test_no_name_makes_it_fail_and_case_never_counts(text: str) -> None:
    assert all(sounds_of(text))
    assert sounds_of(text) == sounds_of(" ".join(text.split()))


def test_sounds_are_lasting_keys() -> None:
    """Golden: what is kept under them is searched under them."""
    assert sounds_of("Smith") == ("SM0",)
    assert sound_key("phonetic", "SM0") == -6680456099618029998


def test_a_person_an_organisation_and_a_plan_are_kept_by_their_sound() -> None:
    person = {"resourceType": "Patient", "name": [{"family": "Smith", "given": ["Anna", "Maria"]}]}
    kept = extract(person, "").tokens
    assert {sound_key("phonetic", one) for one in sounds_of("Smith Anna Maria")} <= set(kept)
    for kind in ("Organization", "InsurancePlan"):
        assert (
            sound_key("phonetic", "SM0") in extract({"resourceType": kind, "name": "Smith & Sons"}, "").tokens
        )
    odd = {"resourceType": "Patient", "name": [{"family": 5, "given": ["x", 1, None]}, 1]}
    assert sound_key("phonetic", sounds_of("x")[0]) in extract(odd, "").tokens


def test_all_words_that_are_asked_must_sound_so() -> None:
    one = TokenCriterion("phonetic", ((None, "SM0"),), (sound_key("phonetic", "SM0"),))
    other = TokenCriterion("phonetic", ((None, "JN"),), (sound_key("phonetic", "JN"),))
    assert sounding("phonetic", ["smyth"]) == one
    assert sounding("phonetic", ["Smith John"]) == EveryCriterion((one, other))
    assert sounding("phonetic", ["Smith", "John"]) == AnyCriterion((one, other))
    for nothing in ("-", " ", "''"):
        with pytest.raises(MalformedSearch):
            sounding("phonetic", [nothing])
