"""What a trust has written about a person: clinics, emergencies, admissions, operations and letters."""

from collections.abc import Sequence
from datetime import date, timedelta

from app.demo import resources
from app.demo.catalogue import (
    ADMISSION,
    CLINIC_LETTER,
    DISCHARGE_LETTER,
    EMERGENCY_ATTENDANCE,
    FOLLOW_UP,
    MEDICINES,
    PSYCHIATRIC_INTERVIEW,
    Code,
)
from app.demo.chart import Chart, moment
from app.demo.demographics import patient
from app.demo.findings import finding
from app.demo.json_text import Resource
from app.demo.organisations import MENTAL_HEALTH_TRUST, ORGANISATIONS, Professional
from app.demo.person import YEAR, Illness, PrivateProcedure
from app.demo.practice import (
    AMBULATORY,
    suitable,
    write_allergies,
    write_blood_pressure,
    write_panel,
    write_vital_sign,
)
from app.demo.problems import EMERGENCIES, PROCEDURES, Problem

_INPATIENT = ("IMP", "inpatient encounter")
_EMERGENCY = ("EMER", "emergency")
_EMERGENCY_SPECIALTY = "180"
_PSYCHIATRY = "710"


def write_hospital_record(chart: Chart) -> None:
    """The whole record of a trust. Everybody it knows has been seen at least once."""
    ods = chart.organisation.ods
    chart.add_as(chart.person.patient_id(ods), patient(chart))
    write_allergies(chart)
    known = chart.person.illnesses_known_to(ods)
    for illness in known:
        _illness(chart, illness)
    for operation in chart.person.procedures:
        if operation.kept_by == ods:
            _private_procedure(chart, operation)
    emergencies = _emergencies(chart)
    for problem in emergencies:
        _emergency(chart, problem)
    if not known and not emergencies:
        _check(chart)
    _next_appointment(chart)


def _illness(chart: Chart, illness: Illness) -> None:
    """The diagnosis and what this trust has done about it in the last years."""
    problem, by = illness.problem, chart.professional(illness.problem.specialty)
    entry = resources.condition(chart, problem.code, illness.since, by=by)
    chart.add(entry, problem.sensitivity)
    if problem.specialty == _EMERGENCY_SPECIALTY:
        return _attendance(chart, illness)
    first = max(illness.since, chart.person.last_day - 3 * YEAR)
    visits = chart.random.randrange(2, 5) if problem.sensitivity else chart.random.randrange(1, 4)
    days = sorted({chart.day_between(first, chart.person.last_day) for _ in range(visits)})
    for day in days:
        _clinic(chart, problem, day, by, with_letter=day == days[-1])
    if problem.sensitivity:
        for name in problem.medicines:
            order = resources.prescription(chart, MEDICINES[name], days[0], by=by, repeats=True)
            chart.add(order, problem.sensitivity)
    return None


def _clinic(chart: Chart, problem: Problem, day: date, by: Professional, *, with_letter: bool) -> None:
    hour, sensitivity = chart.random.randrange(9, 17), problem.sensitivity
    kind = PSYCHIATRIC_INTERVIEW if problem.specialty == _PSYCHIATRY else FOLLOW_UP
    visit = resources.encounter(
        chart,
        AMBULATORY,
        kind,
        day,
        hour,
        by=by,
        reason=problem.code,
        place=len(chart.organisation.places) - 1,
    )
    seen, at = chart.add(visit, sensitivity), moment(day, hour, 10)
    if "phq9" in problem.levels:
        score = finding("phq9", chart.person, day, chart.random, problem.levels)
        chart.add(resources.survey_score(chart, "phq9", score, at, seen, by), sensitivity)
    elif not sensitivity:
        _weigh(chart, day, at, seen, by)
    if with_letter:
        for name in problem.panels:
            write_panel(chart, name, day, at, seen, sensitivity=sensitivity)
        text = _clinic_letter(chart, problem.code, day, by)
        chart.add(resources.letter(chart, CLINIC_LETTER, "Clinic letter", text, at, seen, by), sensitivity)
    operates = problem.specialty in PROCEDURES and chart.organisation.ods != MENTAL_HEALTH_TRUST
    if operates and with_letter and not sensitivity:
        chart.add(resources.procedure(chart, PROCEDURES[problem.specialty], day, seen, by))


def _weigh(chart: Chart, day: date, at: str, seen: Resource, by: Professional) -> None:
    if chart.person.age(day) >= 16:
        write_blood_pressure(chart, day, at, seen, by)
    write_vital_sign(chart, "weight", day, at, seen, by)


def _attendance(chart: Chart, illness: Illness) -> None:
    """An emergency attendance that is itself sensitive: what was found, on the day it came out."""
    by, problem = chart.professional(_EMERGENCY_SPECIALTY), illness.problem
    visit = resources.encounter(
        chart, _EMERGENCY, EMERGENCY_ATTENDANCE, illness.since, 22, by=by, reason=problem.code
    )
    seen = chart.add(visit, problem.sensitivity)
    text = _clinic_letter(chart, problem.code, illness.since, by)
    at = moment(illness.since, 22, 15)
    chart.add(
        resources.letter(chart, CLINIC_LETTER, "Emergency department letter", text, at, seen, by),
        problem.sensitivity,
    )


def _private_procedure(chart: Chart, operation: PrivateProcedure) -> None:
    by = chart.professional(operation.specialty)
    visit = resources.encounter(chart, AMBULATORY, FOLLOW_UP, operation.day, 10, by=by, reason=operation.code)
    seen = chart.add(visit, operation.sensitivity)
    chart.add(resources.procedure(chart, operation.code, operation.day, seen, by), operation.sensitivity)


def _emergencies(chart: Chart) -> list[Problem]:
    """None to two; the mental health trust has no emergency department."""
    person = chart.person
    fitting = [each for each in EMERGENCIES if each.youngest <= person.age() <= each.oldest]
    if chart.organisation.ods == MENTAL_HEALTH_TRUST or not fitting:
        return []
    number = chart.random.choices((0, 1, 2), (30, 45, 25))[0]
    return chart.random.choices(fitting, [each.share for each in fitting], k=number)


def _emergency(chart: Chart, problem: Problem) -> None:
    """An attendance and, when there was blood to take, the admission that follows."""
    person, by = chart.person, chart.professional(_EMERGENCY_SPECIALTY)
    day = chart.day_between(person.last_day - 4 * YEAR, person.last_day - timedelta(days=12))
    hour = chart.random.randrange(0, 23)
    hour = 3 if hour == 2 else hour
    visit = resources.encounter(
        chart, _EMERGENCY, EMERGENCY_ATTENDANCE, day, hour, by=by, reason=problem.code
    )
    seen, at = chart.add(visit), moment(day, hour, 12)
    over = min(day + timedelta(days=chart.random.randrange(10, 40)), person.last_day)
    chart.add(
        resources.condition(
            chart, problem.code, day, ended=over, on_problem_list=False, by=by, encounter=seen
        )
    )
    if person.age(day) >= 16:
        write_blood_pressure(chart, day, at, seen, by)
    for name in ("pulse", "respirations", "temperature", "saturation"):
        write_vital_sign(chart, name, day, at, seen, by, acute=problem.levels)
    if problem.panels:
        _admission(chart, problem, day)


def _admission(chart: Chart, problem: Problem, day: date) -> None:
    by, nights = chart.professional(problem.specialty), chart.random.randrange(1, 8)
    stay = resources.encounter(
        chart, _INPATIENT, ADMISSION, day, 23, by=by, nights=nights, reason=problem.code, place=1
    )
    seen, left = chart.add(stay), day + timedelta(days=nights)
    for name in problem.panels:
        write_panel(chart, name, day, moment(day, 23, 40), seen, acute=problem.levels)
    if problem.specialty in PROCEDURES:
        operated = day + timedelta(days=min(1, nights))
        chart.add(resources.procedure(chart, PROCEDURES[problem.specialty], operated, seen, by))
    taken = list(_usual_medicines(chart, day))
    for name in taken:
        chart.add(resources.medication_taken(chart, MEDICINES[name], day, seen))
    text = _discharge_letter(chart, problem, day, left, taken, by)
    at = moment(left, 14, 30)
    chart.add(resources.letter(chart, DISCHARGE_LETTER, "Discharge letter", text, at, seen, by))


def _usual_medicines(chart: Chart, day: date) -> Sequence[str]:
    """What the person takes for illnesses that are no secret here, each once."""
    known = chart.person.illnesses_known_to(chart.organisation.ods)
    return tuple(
        dict.fromkeys(
            name
            for illness in known
            if illness.since <= day and not illness.problem.sensitivity
            for name in illness.problem.medicines
        )
    )


def _check(chart: Chart) -> None:
    """A single visit to somebody of whom the trust knows little else."""
    by = chart.organisation.staff[0]
    day = chart.day_between(chart.person.last_day - 2 * YEAR, chart.person.last_day)
    hour = chart.random.randrange(9, 17)
    seen = chart.add(resources.encounter(chart, AMBULATORY, FOLLOW_UP, day, hour, by=by))
    for name in ("height", "weight", "pulse", "temperature", "saturation"):
        write_vital_sign(chart, name, day, moment(day, hour, 10), seen, by)
    write_panel(chart, "blood-count", day, moment(day, hour, 15), seen)


def _next_appointment(chart: Chart) -> None:
    if chart.person.died is None and chart.random.random() < 0.4:
        day = chart.person.as_of + timedelta(days=chart.random.randrange(10, 150))
        with_ = chart.random.choice(chart.organisation.staff)
        chart.add(resources.appointment(chart, day, chart.random.randrange(9, 17), with_))


def _salutation(chart: Chart, by: Professional) -> tuple[str, str]:
    practice = ORGANISATIONS[chart.person.practice]
    top = f"{chart.organisation.name}\n{by.title} {by.given} {by.family}\n\nTo: {practice.name}\n\nDear colleague,\n\n"
    return top, f"\n\nYours sincerely,\n{by.title} {by.given} {by.family}\n"


def _clinic_letter(chart: Chart, about: Code, day: date, by: Professional) -> str:
    person = chart.person
    top, end = _salutation(chart, by)
    return (
        f"{top}I saw {person.title} {person.family} (born {person.born:%d %B %Y}) on {day:%d %B %Y}.\n"
        f"Diagnosis: {about.display}.\nThere is no change to the treatment. I will see them again in due course.{end}"
    )


def _discharge_letter(
    chart: Chart, problem: Problem, came: date, left: date, taken: Sequence[str], by: Professional
) -> str:
    person = chart.person
    top, end = _salutation(chart, by)
    given = next(suitable(chart, problem.medicines), None)
    lines = [MEDICINES[name].code.display for name in (*taken, *([given] if given else []))]
    return (
        f"{top}{person.title} {person.family} (born {person.born:%d %B %Y}) was with us "
        f"from {came:%d %B %Y} to {left:%d %B %Y}.\nDiagnosis: {problem.code.display}.\n"
        f"Medicines on discharge: {'; '.join(dict.fromkeys(lines)) or 'none'}.\n"
        f"Please check renal function within two weeks.{end}"
    )
