"""A population: reproducible, synthetic, varied, and made one person at a time."""

import csv
import lzma
from collections import Counter
from datetime import date, timedelta
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.demo.bundles import bundles_for, consents_for, to_text
from app.demo.demographics import misspelt
from app.demo.names import HERITAGES
from app.demo.organisations import ORGANISATIONS
from app.demo.people import MOST_PEOPLE, generate, nhs_numbers
from app.demo.showcase import CAST
from app.vocabulary import valid_nhs_number

AS_OF = date(2026, 11, 1)


def _texts(seed: int, people: int, as_of: date = AS_OF) -> list[str]:
    return [
        to_text(bundle)
        for person in generate(seed, people, as_of)
        for _, bundle in (*bundles_for(person), *consents_for(person))
    ]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=5, deadline=None)
def test_the_same_seed_gives_the_same_bytes(seed: int) -> None:
    assert _texts(seed, 14) == _texts(seed, 14)


def test_another_seed_gives_other_strangers_and_other_records() -> None:
    one, other = (list(generate(seed, 30, AS_OF)) for seed in (1, 2))
    strangers = [{person.nhs_number.digits for person in people[len(CAST) :]} for people in (one, other)]
    assert not strangers[0] & strangers[1]
    records = [
        {to_text(bundle) for person in people for _, bundle in bundles_for(person)} for people in (one, other)
    ]
    assert not records[0] & records[1]


def test_a_larger_population_begins_with_the_smaller_one() -> None:
    assert _texts(7, 20) == _texts(7, 25)[: len(_texts(7, 20))]


def test_nhs_numbers_are_valid_synthetic_and_given_once() -> None:
    numbers = [person.nhs_number.digits for person in generate(3, 2_000, AS_OF)]
    assert len(set(numbers)) == 2_000
    assert all(number.startswith("999") and valid_nhs_number(number) for number in numbers)


def test_no_stranger_is_given_the_number_of_a_showcase_person() -> None:
    taken = {member.nhs_number for member in CAST.values()}
    for seed in range(3):
        assert not taken & {number.digits for number in islice(nhs_numbers(seed), 50_000)}


def test_every_population_begins_with_the_showcase() -> None:
    made = [(person.given, person.family) for person in generate(5, len(CAST) + 1, AS_OF)]
    assert made[:-1] == [(member.given, member.family) for member in CAST.values()]
    assert [person.family for person in generate(5, 2, AS_OF)] == ["Okafor", "Whitlock"]


def test_people_are_made_only_when_they_are_asked_for() -> None:
    assert len(list(islice(generate(1, MOST_PEOPLE, AS_OF), 15))) == 15


@pytest.mark.parametrize("people", [-1, MOST_PEOPLE + 1])
def test_more_people_than_there_are_numbers_are_refused(people: int) -> None:
    with pytest.raises(ValueError, match="between 0 and"):
        next(generate(1, people, AS_OF))


def test_a_population_has_every_age_and_many_origins() -> None:
    people = list(generate(11, 1_000, AS_OF))
    ages = [(AS_OF - person.born) // timedelta(days=365.25) for person in people]
    assert min(ages) == 0
    assert 93 <= max(ages) <= 95
    origins = Counter(person.ethnicity.code for person in people)
    assert len(origins) == len(HERITAGES)
    assert 0.4 < origins["A"] / 1_000 < 0.75


def test_problems_fit_age_and_sex() -> None:
    for person in generate(13, 1_000, AS_OF):
        for illness in person.illnesses:
            problem = illness.problem
            assert problem.sex in ("any", person.gender)
            assert person.born <= illness.since <= person.last_day
            assert person.age() >= problem.youngest


@pytest.mark.parametrize("family", sorted({name for each in HERITAGES for name in each.families}))
def test_a_misspelt_name_is_another_name(family: str) -> None:
    assert misspelt(family) != family
    assert misspelt(family)[0] == family[0]


def test_no_custodian_has_the_code_of_a_real_organisation(shared_data: Path) -> None:
    ods = shared_data / "uk" / "ods"
    real = {row[0] for row in csv.reader((ods / "etr-2022-03.csv").read_text().splitlines())}
    with lzma.open(ods / "gp-practice-pcn-icb-map-2022.csv.xz", "rt") as practices:
        real |= {row["PRACTICE_CODE"] for row in csv.DictReader(practices)}
    assert len(real) > 6_000
    assert not real & set(ORGANISATIONS)
