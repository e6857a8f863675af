"""The codes of the catalogue have right check digits, and every name used in it is in it."""

from app.demo import catalogue, measures, problems
from app.demo.catalogue import ALLERGENS, DMD, LOINC, MEDICINES, SNOMED, VACCINES, Code
from app.demo.measures import MEASURES, PANELS
from app.demo.problems import ACUTE_PROBLEMS, EMERGENCIES, PROBLEMS, PROCEDURES

_TURN = "01234567891576283094580379614289160435279453126870428657390127938064157046913258"
_PERMUTATION = [_TURN[row * 10 : row * 10 + 10] for row in range(8)]


def _dihedral(a: int, b: int) -> int:
    """The product in the group of the ten symmetries of a pentagon."""
    turn = (a + b if a < 5 else a - b) % 5
    return turn + (5 if (a < 5) != (b < 5) else 0)


def _verhoeff(code: str) -> bool:
    """SNOMED CT identifiers end in a Verhoeff check digit (and dm+d codes are such identifiers)."""
    check = 0
    for place, digit in enumerate(reversed(code)):
        check = _dihedral(check, int(_PERMUTATION[place % 8][int(digit)]))
    return check == 0


def _luhn(code: str) -> bool:
    """LOINC numbers end in a modulus-10 check digit."""
    number, check = code.split("-")
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(number)))
    return -sum(part // 10 + part % 10 for part in doubled) % 10 == int(check)


def _all_problems() -> list[problems.Problem]:
    return [*PROBLEMS.values(), *ACUTE_PROBLEMS, *EMERGENCIES]


def _codes() -> list[Code]:
    return [
        *(
            code
            for module in (catalogue, measures, problems)
            for code in vars(module).values()
            if isinstance(code, Code)
        ),
        *(medicine.code for medicine in MEDICINES.values()),
        *(code for each in ALLERGENS.values() for code in (each.code, each.reaction)),
        *(code for each in VACCINES.values() for code in (each.code, each.disease)),
        *(code for each in MEASURES.values() for code in each.codes),
        *(panel.code for panel in PANELS.values()),
        *(problem.code for problem in _all_problems()),
        *PROCEDURES.values(),
    ]


def test_the_check_digits_of_the_checks_are_right() -> None:
    assert _verhoeff("22298006")
    assert not _verhoeff("22298007")
    assert _luhn("8480-6")
    assert not _luhn("8480-7")


def test_every_code_has_a_right_check_digit() -> None:
    codes = _codes()
    assert len(codes) > 130
    for code in codes:
        if code.system in (SNOMED, DMD):
            assert _verhoeff(code.code), code
        elif code.system == LOINC:
            assert _luhn(code.code), code


def test_a_code_has_one_display() -> None:
    displays: dict[tuple[str, str], set[str]] = {}
    for code in _codes():
        displays.setdefault((code.system, code.code), set()).add(code.display)
    assert {key: found for key, found in displays.items() if len(found) > 1} == {}


def test_every_name_that_a_problem_uses_is_in_the_catalogue() -> None:
    for problem in _all_problems():
        assert set(problem.medicines) <= set(MEDICINES)
        assert set(problem.panels) <= set(PANELS)
        assert set(problem.levels) <= set(MEASURES)
    for panel in PANELS.values():
        assert set(panel.measures) <= set(MEASURES)


def test_every_range_rises() -> None:
    for measure in MEASURES.values():
        assert measure.low < measure.high
    for problem in _all_problems():
        assert all(low < high for low, high in problem.levels.values())
