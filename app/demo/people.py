"""A population from a seed: the showcase people, then as many strangers as are asked for, one at a time."""

from collections.abc import Iterator
from datetime import date, timedelta
from itertools import islice
from random import Random
from types import MappingProxyType

from app.demo.catalogue import ALLERGENS
from app.demo.measures import MEASURES
from app.demo.names import HERITAGES, STREETS, TOWNS
from app.demo.organisations import MENTAL_HEALTH_TRUST, PRACTICES, TRUSTS
from app.demo.person import YEAR, Address, Choice, ChoiceKind, DemoPerson, Illness, Smoking
from app.demo.problems import PROBLEMS, Problem
from app.demo.showcase import CAST, CastMember
from app.vocabulary import NhsNumber, OdsCode, valid_nhs_number

__all__ = ["CAST", "MOST_PEOPLE", "generate", "nhs_numbers"]

MOST_PEOPLE = 900_000
"""About ten in eleven of the million nine-digit stems of the 999 range have a check digit."""

_AGE_BANDS = ((0, 4), (5, 17), (18, 39), (40, 64), (65, 79), (80, 95))
_AGE_SHARES = (5, 12, 25, 30, 18, 10)


def generate(seed: int, people: int, as_of: date) -> Iterator[DemoPerson]:
    """``people`` different persons as they are on ``as_of``; the same arguments give the same people.

    The first ``len(CAST)`` are the showcase. Raises ValueError for more people than there are numbers.
    """
    if not 0 <= people <= MOST_PEOPLE:
        raise ValueError(f"between 0 and {MOST_PEOPLE} people can be made")
    yield from (_cast(seed, member, as_of) for member in islice(CAST.values(), people))
    yield from (
        _stranger(seed, number, as_of) for number in islice(nhs_numbers(seed), max(0, people - len(CAST)))
    )


def nhs_numbers(seed: int) -> Iterator[NhsNumber]:
    """Valid numbers of the synthetic 999 range, each once, in an order that the seed gives.

    Stems below 999001000 are the showcase's and left out. The stride shares no factor with a million, so it
    meets each stem once.
    """
    start = Random(f"{seed}/nhs-numbers").randrange(1_000_000)
    for step in range(1_000_000):
        stem = (start + step * 387_217) % 1_000_000
        if stem >= 1_000:
            yield from _numbered(f"999{stem:06d}")


def _numbered(stem: str) -> Iterator[NhsNumber]:
    digit = (
        11 - sum(weight * int(figure) for weight, figure in zip(range(10, 1, -1), stem, strict=True)) % 11
    ) % 11
    if valid_nhs_number(f"{stem}{digit}"):
        yield NhsNumber(f"{stem}{digit}")


def _cast(seed: int, member: CastMember, as_of: date) -> DemoPerson:
    random = Random(f"{seed}/{member.nhs_number}")
    height, weight = _build(random, member.gender)
    return DemoPerson(
        seed=seed,
        nhs_number=NhsNumber(member.nhs_number),
        title=member.title,
        given=member.given,
        family=member.family,
        gender=member.gender,
        born=member.born,
        as_of=as_of,
        ethnicity=member.ethnicity,
        address=_address(random),
        former_address=_address(random),
        phone=_phone(random),
        practice=member.practice,
        trusts=member.trusts,
        height=height,
        weight=weight,
        smoking=member.smoking,
        illnesses=member.illnesses_on(as_of),
        allergies=member.allergies,
        allergy_unknown_to=member.allergy_unknown_to,
        misspelt_at=member.misspelt_at,
        move_unknown_to=member.move_unknown_to,
        procedures=member.procedures_on(as_of),
        choices=member.choices_on(as_of),
        levels=_levels(random),
    )


def _stranger(seed: int, number: NhsNumber, as_of: date) -> DemoPerson:
    random = Random(f"{seed}/{number.digits}")
    gender = random.choice(("female", "male"))
    born = _birthday(random, as_of)
    age = (as_of - born) // YEAR
    heritage = random.choices(HERITAGES, [each.share for each in HERITAGES])[0]
    practice = random.choice(PRACTICES)
    problems = _problems(random, gender, age)
    trusts = _trusts(random, problems)
    height, weight = _build(random, gender)
    slip = random.choice((None, None, None, None, *trusts))
    died = as_of - timedelta(days=random.randrange(5, 300)) if age >= 80 and random.random() < 0.12 else None
    return DemoPerson(
        seed=seed,
        nhs_number=number,
        title=_title(random, gender, age),
        given=random.choice(heritage.female if gender == "female" else heritage.male),
        family=random.choice(heritage.families),
        gender=gender,
        born=born,
        as_of=as_of,
        ethnicity=heritage.ethnicity,
        address=_address(random),
        former_address=_address(random),
        phone=_phone(random),
        practice=practice,
        trusts=trusts,
        height=height,
        weight=weight,
        smoking=_smoking(random, age),
        died=died,
        illnesses=tuple(_illnesses(random, problems, born, died or as_of, practice, trusts)),
        allergies=tuple(name for name in ALLERGENS if random.random() < 0.05),
        misspelt_at=slip if random.random() < 0.5 else None,
        move_unknown_to=slip,
        choices=_choices(random, age, died or as_of),
        levels=_levels(random),
    )


def _birthday(random: Random, as_of: date) -> date:
    youngest, oldest = random.choices(_AGE_BANDS, _AGE_SHARES)[0]
    return as_of - timedelta(days=random.randrange(60 + int(youngest * 365.25), int((oldest + 1) * 365.25)))


def _title(random: Random, gender: str, age: int) -> str:
    if age < 16:
        return "Miss" if gender == "female" else "Master"
    return random.choice(("Mrs", "Ms", "Miss")) if gender == "female" else "Mr"


def _address(random: Random) -> Address:
    town, outward = random.choice(TOWNS)
    unit = "".join(random.choices("ABDEFGHJLNPQRSTUWXYZ", k=2))
    return Address(f"{random.randrange(1, 160)} {random.choice(STREETS)}", town, f"{outward}{unit}")


def _phone(random: Random) -> str:
    """A number of the range that Ofcom keeps free for drama."""
    return f"07700 900{random.randrange(1000):03d}"


def _build(random: Random, gender: str) -> tuple[float, float]:
    """Full-grown height in centimetres and weight in kilograms."""
    height = random.gauss(162, 6) if gender == "female" else random.gauss(176, 7)
    bmi = min(38.0, max(18.6, random.gauss(26.0, 3.6)))
    return height, bmi * (height / 100) ** 2


def _smoking(random: Random, age: int) -> Smoking:
    if age < 16:
        return Smoking.NEVER
    return random.choices((Smoking.NEVER, Smoking.FORMER, Smoking.CURRENT), (60, 27, 13))[0]


def _levels(random: Random) -> MappingProxyType[str, float]:
    return MappingProxyType({name: random.random() for name in MEASURES})


def _problems(random: Random, gender: str, age: int) -> tuple[Problem, ...]:
    return tuple(
        problem
        for problem in PROBLEMS.values()
        if random.random() < problem.share
        and problem.sex in ("any", gender)
        and problem.youngest <= age <= problem.oldest
    )


def _trusts(random: Random, problems: tuple[Problem, ...]) -> tuple[OdsCode, ...]:
    """One to three trusts by code, the mental health trust among them where it is needed."""
    chosen = set(random.sample(TRUSTS, random.choices((1, 2, 3), (50, 35, 15))[0]))
    if any(problem.sensitivity for problem in problems):
        chosen.add(MENTAL_HEALTH_TRUST)
    return tuple(ods for ods in TRUSTS if ods in chosen)


def _illnesses(
    random: Random,
    problems: tuple[Problem, ...],
    born: date,
    last_day: date,
    practice: OdsCode,
    trusts: tuple[OdsCode, ...],
) -> Iterator[Illness]:
    for problem in problems:
        first = max(born + problem.youngest * YEAR, last_day - 15 * YEAR, born)
        span = (last_day - timedelta(days=30) - first).days
        knowing = [ods for ods in trusts if random.random() < 0.6]
        since = first + timedelta(days=random.randrange(max(1, span)))
        if problem.sensitivity:
            knowing = [MENTAL_HEALTH_TRUST]
        yield Illness(problem, since, (practice, *knowing))


def _choices(random: Random, age: int, last_day: date) -> tuple[Choice, ...]:
    if age < 16 or random.random() > 0.06:
        return ()
    return (Choice(ChoiceKind.RESEARCH, last_day - timedelta(days=random.randrange(30, 900))),)
