"""What a general practice has written about a person: problems, repeats, reviews, consultations, vaccinations."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from app.demo import resources
from app.demo.catalogue import ALLERGENS, CHECK_UP, CONSULTATION, MEDICINES, VACCINES
from app.demo.chart import Chart, moment
from app.demo.demographics import patient
from app.demo.findings import finding
from app.demo.json_text import Resource
from app.demo.measures import EX_SMOKER, NEVER_SMOKED, PANELS, SMOKER
from app.demo.organisations import ORGANISATIONS, Professional
from app.demo.person import YEAR, Illness, Smoking
from app.demo.problems import ACUTE_PROBLEMS, Levels, Problem

AMBULATORY = ("AMB", "ambulatory")
_YEARS_OF_REVIEWS = 5
_SMOKING = {Smoking.NEVER: NEVER_SMOKED, Smoking.FORMER: EX_SMOKER, Smoking.CURRENT: SMOKER}


def write_practice_record(chart: Chart) -> None:
    """The whole record of the practice, oldest kind of knowledge first."""
    chart.add_as(chart.person.patient_id(chart.organisation.ods), patient(chart))
    write_allergies(chart)
    known = chart.person.illnesses_known_to(chart.organisation.ods)
    for illness in known:
        _problem(chart, illness)
    _reviews(chart, known)
    for problem in _complaints(chart):
        _consultation(chart, problem)
    _vaccinations(chart)
    _referrals(chart, known)


def write_allergies(chart: Chart) -> None:
    """Each allergy, or that none is known; a custodian may be wrong about that."""
    person, by = chart.person, chart.organisation.staff[0]
    recorded = chart.day_between(person.last_day - 6 * YEAR, person.last_day - timedelta(days=200))
    if not person.allergies or person.allergy_unknown_to == chart.organisation.ods:
        chart.add(resources.no_known_allergy(chart, recorded, by))
        return
    for name in person.allergies:
        chart.add(resources.allergy(chart, ALLERGENS[name], recorded, by))


def _doctor(chart: Chart) -> Professional:
    return chart.random.choice(chart.organisation.staff)


def _problem(chart: Chart, illness: Illness) -> None:
    """A problem list entry and the medicines that are on repeat for it."""
    problem, by = illness.problem, _doctor(chart)
    entry = chart.add(resources.condition(chart, problem.code, illness.since, by=by), problem.sensitivity)
    for name in problem.medicines:
        day = max(illness.since, chart.day_between(illness.since, chart.person.last_day))
        order = resources.prescription(
            chart,
            MEDICINES[name],
            day,
            by=by,
            repeats=True,
            stopped=chart.person.died is not None,
            reason=entry,
        )
        chart.add(order, problem.sensitivity)


def _reviews(chart: Chart, known: Sequence[Illness]) -> None:
    """Once a year with a long-term illness, every other year without; a child is measured instead.

    All the blood that the illnesses ask for is taken every other year, the first panel of it each year.
    """
    every = 1 if known else 2
    for years in range(0, _YEARS_OF_REVIEWS, every):
        last = chart.person.last_day - years * YEAR - timedelta(days=1)
        if last <= chart.person.born:
            return
        day = chart.day_between(last - YEAR + timedelta(days=20), last)
        if chart.person.age(day) < 16:
            _growth_check(chart, day)
        else:
            _review(chart, day, [illness for illness in known if illness.since <= day], years)


def _seen(chart: Chart, day: date, by: Professional) -> tuple[Resource, str]:
    """A check-up on ``day``; its reference and the time of what is found at it."""
    hour = chart.random.randrange(8, 18)
    visit = resources.encounter(chart, AMBULATORY, CHECK_UP, day, hour, by=by)
    return chart.add(visit), moment(day, hour, chart.random.randrange(1, 20))


def _growth_check(chart: Chart, day: date) -> None:
    by = _doctor(chart)
    seen, at = _seen(chart, day, by)
    for name in ("height", "weight", "pulse"):
        write_vital_sign(chart, name, day, at, seen, by)


def _review(chart: Chart, day: date, known: Sequence[Illness], years: int) -> None:
    by = _doctor(chart)
    seen, at = _seen(chart, day, by)
    write_blood_pressure(chart, day, at, seen, by)
    for name in ("pulse", "weight", "bmi"):
        write_vital_sign(chart, name, day, at, seen, by)
    if years % 2 == 0:
        chart.add(resources.smoking_status(chart, _SMOKING[chart.person.smoking], at, seen, by))
    open_illnesses = [illness for illness in known if not illness.problem.sensitivity]
    panels = sorted({name for illness in open_illnesses for name in illness.problem.panels}) or [
        "blood-count"
    ]
    for name in panels if years % 2 == 0 else panels[:1]:
        write_panel(chart, name, day, at, seen)


def write_vital_sign(
    chart: Chart,
    name: str,
    day: date,
    at: str,
    seen: Resource,
    by: Professional,
    *,
    acute: Levels | None = None,
) -> None:
    """One measured quantity of the examination."""
    number = finding(name, chart.person, day, chart.random, acute)
    chart.add(resources.vital_sign(chart, name, number, at, seen, by))


def write_blood_pressure(chart: Chart, day: date, at: str, seen: Resource, by: Professional) -> None:
    systolic, diastolic = (
        finding(name, chart.person, day, chart.random) for name in ("systolic", "diastolic")
    )
    chart.add(resources.blood_pressure(chart, systolic, diastolic, at, seen, by))


def write_panel(
    chart: Chart,
    name: str,
    day: date,
    at: str,
    seen: Resource,
    *,
    acute: Levels | None = None,
    sensitivity: Sequence[str] = (),
) -> None:
    """Every result of a panel and, when it has several, the report that groups them."""
    panel = PANELS[name]
    results = [
        chart.add(
            resources.laboratory_result(
                chart, measure, finding(measure, chart.person, day, chart.random, acute), at, seen
            ),
            sensitivity,
        )
        for measure in panel.measures
    ]
    if len(results) > 1:
        chart.add(resources.report(chart, panel, results, at, seen), sensitivity)


def _complaints(chart: Chart) -> list[Problem]:
    """Two to five short illnesses that fit the person's age and sex."""
    person = chart.person
    fitting = [
        problem
        for problem in ACUTE_PROBLEMS
        if problem.sex in ("any", person.gender) and problem.youngest <= person.age() <= problem.oldest
    ]
    return chart.random.choices(fitting, [each.share for each in fitting], k=chart.random.randrange(2, 6))


def _consultation(chart: Chart, problem: Problem) -> None:
    """A visit for a short illness, now over, with what was found and given."""
    person, by = chart.person, _doctor(chart)
    day = chart.day_between(person.last_day - 4 * YEAR, person.last_day - timedelta(days=3))
    hour = chart.random.randrange(8, 18)
    visit = resources.encounter(chart, AMBULATORY, CONSULTATION, day, hour, by=by, reason=problem.code)
    seen = chart.add(visit)
    over = min(day + timedelta(days=chart.random.randrange(4, 15)), person.last_day)
    entry = resources.condition(
        chart, problem.code, day, ended=over, on_problem_list=False, by=by, encounter=seen
    )
    reason = chart.add(entry)
    for name in ("temperature", "pulse"):
        write_vital_sign(chart, name, day, moment(day, hour, 5), seen, by)
    medicine = next(suitable(chart, problem.medicines), None)
    if medicine is not None:
        order = resources.prescription(
            chart, MEDICINES[medicine], day, by=by, repeats=False, reason=reason, seen=seen
        )
        chart.add(order)


def suitable(chart: Chart, medicines: Sequence[str]) -> Iterator[str]:
    """Those of ``medicines`` that somebody who knows the person's allergies would give."""
    allergic = "penicillin" in chart.person.allergies
    return (name for name in medicines if not (allergic and MEDICINES[name].penicillin))


def _vaccinations(chart: Chart) -> None:
    for name, day, dose in _due(chart):
        if chart.person.born <= day <= chart.person.last_day:
            chart.add(resources.vaccination(chart, VACCINES[name], day, dose, _doctor(chart)))


def _due(chart: Chart) -> Iterator[tuple[str, date, int]]:
    """Vaccine, day and dose by the United Kingdom's schedule; not all of it lies in the person's life."""
    person = chart.person
    if person.age() < 16:
        for dose, weeks in enumerate((8, 12, 16, 174), 1):
            yield "dtap-ipv", person.born + timedelta(weeks=weeks, days=chart.random.randrange(10)), dose
        for dose, weeks in enumerate((53, 175), 1):
            yield "mmr", person.born + timedelta(weeks=weeks, days=chart.random.randrange(10)), dose
        return
    first = date(2021, 2, 1) + timedelta(days=chart.random.randrange(120))
    if person.age(first) >= 18:
        yield "covid", first, 1
        yield "covid", first + timedelta(weeks=11), 2
    if person.age() >= 65:
        for years in range(1, _YEARS_OF_REVIEWS):
            yield "influenza", date(person.as_of.year - years, 10, chart.random.randrange(1, 31)), 1
    if person.age(date(2024, 9, 1)) >= 75:
        yield "rsv", date(2024, 9, chart.random.randrange(1, 31)), 1


def _referrals(chart: Chart, known: Sequence[Illness]) -> None:
    """Why each trust has seen the person, as far as the practice knows, and the next appointment."""
    person = chart.person
    for ods in person.trusts:
        shared = next((illness for illness in known if ods in illness.kept_by), None)
        if shared is not None:
            day = chart.day_between(shared.since, person.last_day)
            order = resources.referral(
                chart, ORGANISATIONS[ods].reference, shared.problem.code, day, _doctor(chart)
            )
            chart.add(order, shared.problem.sensitivity)
    if person.died is None and known:
        day = person.as_of + timedelta(days=chart.random.randrange(7, 90))
        chart.add(resources.appointment(chart, day, chart.random.randrange(8, 18), _doctor(chart)))
