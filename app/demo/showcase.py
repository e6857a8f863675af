"""The people whom the demonstration's printed commands name; every population begins with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType

from app.demo.catalogue import ETHNIC_CATEGORY, Code
from app.demo.person import YEAR, Choice, ChoiceKind, Illness, PrivateProcedure, Smoking, patient_id
from app.demo.problems import PROBLEMS, TERMINATION
from app.vocabulary import OdsCode

LARKMERE, THORNWICK, ASHDALE = OdsCode("RZ1"), OdsCode("RZ2"), OdsCode("RZ3")
MILLBROOK, HARBOURSIDE = OdsCode("Z99901"), OdsCode("Z99902")


@dataclass(frozen=True, slots=True)
class PlannedIllness:
    """``years`` before the day of generation; ``kept_by`` empty means every custodian of the person."""

    problem: str
    years: float
    kept_by: tuple[OdsCode, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedChoice:
    """``made`` and ``until`` are in days from the day of generation."""

    kind: ChoiceKind
    made: int = -200
    organisation: OdsCode | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class CastMember:
    """A showcase person. ``use`` says what a command about them shows."""

    use: str
    nhs_number: str
    title: str
    given: str
    family: str
    gender: str
    born: date
    ethnicity: Code
    practice: OdsCode
    trusts: tuple[OdsCode, ...]
    illnesses: tuple[PlannedIllness, ...] = ()
    allergies: tuple[str, ...] = ()
    smoking: Smoking = Smoking.NEVER
    choices: tuple[PlannedChoice, ...] = ()
    allergy_unknown_to: OdsCode | None = None
    misspelt_at: OdsCode | None = None
    move_unknown_to: OdsCode | None = None
    termination_at: OdsCode | None = None

    @property
    def name(self) -> str:
        return f"{self.given} {self.family}"

    def patient_id(self, ods: str) -> str:
        """The id of the Patient that ``ods`` keeps for this person."""
        return patient_id(ods, self.nhs_number)

    def illnesses_on(self, as_of: date) -> tuple[Illness, ...]:
        everyone = (self.practice, *self.trusts)
        return tuple(
            Illness(PROBLEMS[plan.problem], as_of - plan.years * YEAR, plan.kept_by or everyone)
            for plan in self.illnesses
        )

    def choices_on(self, as_of: date) -> tuple[Choice, ...]:
        return tuple(
            Choice(
                plan.kind,
                as_of + timedelta(days=plan.made),
                plan.organisation,
                None if plan.until is None else as_of + timedelta(days=plan.until),
            )
            for plan in self.choices
        )

    def procedures_on(self, as_of: date) -> tuple[PrivateProcedure, ...]:
        if self.termination_at is None:
            return ()
        day = as_of - timedelta(days=140)
        return (PrivateProcedure(TERMINATION, day, self.termination_at, "502", ("SEX",)),)


def _category(code: str, display: str) -> Code:
    return Code(ETHNIC_CATEGORY, code, display)


_BRITISH = _category("A", "White - British")
_OTHER_WHITE = _category("C", "White - Any other White background")
_INDIAN = _category("H", "Asian or Asian British - Indian")
_BANGLADESHI = _category("K", "Asian or Asian British - Bangladeshi")
_CARIBBEAN = _category("M", "Black or Black British - Caribbean")
_AFRICAN = _category("N", "Black or Black British - African")
_CHINESE = _category("R", "Other Ethnic Groups - Chinese")

CAST: Mapping[str, CastMember] = MappingProxyType(
    {
        "margaret": CastMember(
            use="known to all three trusts; the same read is allowed for RZ1 and refused for RZ2",
            nhs_number="9990001006",
            title="Mrs",
            given="Margaret",
            family="Okafor",
            gender="female",
            born=date(1952, 3, 14),
            ethnicity=_AFRICAN,
            practice=MILLBROOK,
            trusts=(LARKMERE, THORNWICK, ASHDALE),
            illnesses=(
                PlannedIllness("hypertension", 14.2, (MILLBROOK, LARKMERE, THORNWICK)),
                PlannedIllness("type-2-diabetes", 11.6),
                PlannedIllness("atrial-fibrillation", 4.3, (MILLBROOK, LARKMERE, THORNWICK)),
                PlannedIllness("kidney-disease", 3.1, (MILLBROOK, LARKMERE)),
                PlannedIllness("osteoarthritis", 8.0, (MILLBROOK, THORNWICK)),
            ),
            allergies=("penicillin",),
            choices=(PlannedChoice(ChoiceKind.NOT_TO_ONE_TRUST, organisation=THORNWICK),),
        ),
        "daniel": CastMember(
            use="psychiatric records go to the mental health trust only, all else to whoever treats him",
            nhs_number="9990001014",
            title="Mr",
            given="Daniel",
            family="Whitlock",
            gender="male",
            born=date(1985, 7, 2),
            ethnicity=_BRITISH,
            practice=MILLBROOK,
            trusts=(LARKMERE, ASHDALE),
            illnesses=(
                PlannedIllness("bipolar", 6.4, (MILLBROOK, ASHDALE)),
                PlannedIllness("depression", 9.1, (MILLBROOK, ASHDALE)),
                PlannedIllness("asthma", 20.0),
            ),
            smoking=Smoking.CURRENT,
            choices=(PlannedChoice(ChoiceKind.PSYCHIATRY_ONLY_TO_MENTAL_HEALTH),),
        ),
        "shanice": CastMember(
            use="shares nothing except in an emergency",
            nhs_number="9990001022",
            title="Ms",
            given="Shanice",
            family="Campbell",
            gender="female",
            born=date(1993, 11, 23),
            ethnicity=_CARIBBEAN,
            practice=HARBOURSIDE,
            trusts=(LARKMERE, THORNWICK),
            illnesses=(PlannedIllness("epilepsy", 12.0), PlannedIllness("migraine", 5.0)),
            allergies=("latex",),
            choices=(PlannedChoice(ChoiceKind.EMERGENCIES_ONLY, -90),),
        ),
        "tomasz": CastMember(
            use="HIV care at one trust, restricted",
            nhs_number="9990001030",
            title="Mr",
            given="Tomasz",
            family="Wiśniewski",
            gender="male",
            born=date(1980, 1, 30),
            ethnicity=_OTHER_WHITE,
            practice=MILLBROOK,
            trusts=(LARKMERE, THORNWICK),
            illnesses=(PlannedIllness("hiv", 8.5, (LARKMERE,)), PlannedIllness("reflux", 3.0)),
            smoking=Smoking.FORMER,
        ),
        "aisha": CastMember(
            use="sexual health and a termination of pregnancy, restricted, unknown to her practice",
            nhs_number="9990001049",
            title="Miss",
            given="Aisha",
            family="Rahman",
            gender="female",
            born=date(2003, 5, 9),
            ethnicity=_BANGLADESHI,
            practice=HARBOURSIDE,
            trusts=(LARKMERE, THORNWICK),
            illnesses=(PlannedIllness("chlamydia", 0.9, (LARKMERE,)), PlannedIllness("eczema", 15.0)),
            termination_at=THORNWICK,
        ),
        "joanne": CastMember(
            use="domestic abuse on the record, restricted",
            nhs_number="9990001057",
            title="Mrs",
            given="Joanne",
            family="Pritchard",
            gender="female",
            born=date(1988, 9, 17),
            ethnicity=_BRITISH,
            practice=MILLBROOK,
            trusts=(THORNWICK,),
            illnesses=(PlannedIllness("domestic-abuse", 1.2), PlannedIllness("migraine", 6.0)),
        ),
        "craig": CastMember(
            use="alcohol dependence, restricted",
            nhs_number="9990001065",
            title="Mr",
            given="Craig",
            family="Sutherland",
            gender="male",
            born=date(1974, 4, 4),
            ethnicity=_BRITISH,
            practice=HARBOURSIDE,
            trusts=(THORNWICK, ASHDALE),
            illnesses=(
                PlannedIllness("alcohol-dependence", 4.0, (HARBOURSIDE, ASHDALE)),
                PlannedIllness("hypertension", 2.5),
            ),
            smoking=Smoking.CURRENT,
        ),
        "harjit": CastMember(
            use="lets his record be used for research",
            nhs_number="9990001073",
            title="Mr",
            given="Harjit",
            family="Dhillon",
            gender="male",
            born=date(1959, 12, 1),
            ethnicity=_INDIAN,
            practice=MILLBROOK,
            trusts=(LARKMERE,),
            illnesses=(
                PlannedIllness("ischaemic-heart-disease", 5.5),
                PlannedIllness("type-2-diabetes", 13.0),
                PlannedIllness("hypertension", 15.0),
            ),
            choices=(PlannedChoice(ChoiceKind.RESEARCH, -400),),
        ),
        "mei-ling": CastMember(
            use="keeps one trust out until a day that has not come",
            nhs_number="9990001081",
            title="Mrs",
            given="Mei-Ling",
            family="Chan",
            gender="female",
            born=date(1968, 2, 8),
            ethnicity=_CHINESE,
            practice=HARBOURSIDE,
            trusts=(LARKMERE, THORNWICK),
            illnesses=(PlannedIllness("rheumatoid-arthritis", 7.0), PlannedIllness("reflux", 4.0)),
            choices=(PlannedChoice(ChoiceKind.NOT_TO_ONE_TRUST_FOR_A_TIME, -60, LARKMERE, 180),),
        ),
        "gareth": CastMember(
            use="kept one trust out until a day that has passed",
            nhs_number="9990001103",
            title="Mr",
            given="Gareth",
            family="Llewellyn",
            gender="male",
            born=date(1963, 6, 27),
            ethnicity=_BRITISH,
            practice=MILLBROOK,
            trusts=(LARKMERE, THORNWICK),
            illnesses=(PlannedIllness("copd", 6.0), PlannedIllness("hypertension", 9.0)),
            smoking=Smoking.FORMER,
            choices=(PlannedChoice(ChoiceKind.NOT_TO_ONE_TRUST_FOR_A_TIME, -400, LARKMERE, -30),),
        ),
        "edith": CastMember(
            use="allergic to penicillin at one trust, to nothing at another; misspelt name, old address",
            nhs_number="9990001111",
            title="Mrs",
            given="Edith",
            family="Hargreaves",
            gender="female",
            born=date(1941, 10, 19),
            ethnicity=_BRITISH,
            practice=HARBOURSIDE,
            trusts=(LARKMERE, THORNWICK),
            illnesses=(
                PlannedIllness("heart-failure", 3.0),
                PlannedIllness("osteoporosis", 9.0),
                PlannedIllness("alzheimers", 1.8),
            ),
            allergies=("penicillin",),
            allergy_unknown_to=THORNWICK,
            misspelt_at=THORNWICK,
            move_unknown_to=THORNWICK,
        ),
    }
)
