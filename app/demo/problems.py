"""What ails the people of the demonstration, how often, and what it does to their record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from app.demo.catalogue import Code, snomed

Levels = Mapping[str, tuple[float, float]]
"""The range of a measure, by its name in the catalogue, that replaces the healthy one."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A disease or circumstance, who gets it, and what it does to their record.

    ``share`` is the part of the people of a fitting age and sex who have it; 0 is for the showcase only.
    ``specialty`` is the NHS main specialty that looks after it in hospital.
    """

    code: Code
    share: float
    youngest: int
    oldest: int = 96
    sex: str = "any"
    medicines: tuple[str, ...] = ()
    panels: tuple[str, ...] = ()
    levels: Levels = field(default_factory=dict)
    specialty: str = "300"
    sensitivity: tuple[str, ...] = ()
    """v3-ActCode information sensitivity codes; not empty means that its records are restricted."""


def _levels(**ranges: tuple[float, float]) -> Levels:
    return MappingProxyType(ranges)


_DIABETES = _levels(hba1c=(48, 72), weight=(78, 112))
_PRESSURE = _levels(systolic=(132, 158), diastolic=(78, 94))

PROBLEMS = MappingProxyType(
    {
        "hypertension": Problem(
            snomed("59621000", "Essential hypertension"),
            0.42,
            45,
            medicines=("amlodipine", "ramipril"),
            panels=("renal", "lipids"),
            levels=_PRESSURE,
            specialty="320",
        ),
        "type-2-diabetes": Problem(
            snomed("44054006", "Type 2 diabetes mellitus"),
            0.17,
            40,
            medicines=("metformin", "atorvastatin"),
            panels=("hba1c", "renal", "lipids"),
            levels=_DIABETES,
            specialty="302",
        ),
        "type-1-diabetes": Problem(
            snomed("46635009", "Type 1 diabetes mellitus"),
            0.02,
            8,
            50,
            medicines=("insulin",),
            panels=("hba1c", "renal"),
            levels=_levels(hba1c=(50, 78)),
            specialty="302",
        ),
        "asthma": Problem(
            snomed("195967001", "Asthma"), 0.11, 5, medicines=("salbutamol", "beclometasone"), specialty="340"
        ),
        "copd": Problem(
            snomed("13645005", "Chronic obstructive pulmonary disease"),
            0.09,
            55,
            medicines=("salbutamol", "tiotropium"),
            panels=("blood-count",),
            levels=_levels(saturation=(89, 95), respirations=(16, 22)),
            specialty="340",
        ),
        "ischaemic-heart-disease": Problem(
            snomed("414545008", "Ischaemic heart disease"),
            0.10,
            55,
            medicines=("aspirin", "atorvastatin", "bisoprolol"),
            panels=("lipids", "renal"),
            specialty="320",
        ),
        "atrial-fibrillation": Problem(
            snomed("49436004", "Atrial fibrillation"),
            0.10,
            65,
            medicines=("apixaban", "bisoprolol"),
            panels=("renal", "blood-count"),
            levels=_levels(pulse=(68, 112)),
            specialty="320",
        ),
        "heart-failure": Problem(
            snomed("84114007", "Heart failure"),
            0.06,
            68,
            medicines=("furosemide", "ramipril", "spironolactone"),
            panels=("renal",),
            specialty="320",
        ),
        "kidney-disease": Problem(
            snomed("433144002", "Chronic kidney disease stage 3"),
            0.14,
            65,
            medicines=("dapagliflozin",),
            panels=("renal", "blood-count"),
            levels=_levels(egfr=(34, 58), creatinine=(105, 150), urea=(7.2, 13.0), haemoglobin=(102, 130)),
            specialty="361",
        ),
        "stroke": Problem(
            snomed("230690007", "Cerebrovascular accident"),
            0.05,
            60,
            medicines=("clopidogrel", "atorvastatin"),
            panels=("lipids",),
            specialty="430",
        ),
        "osteoarthritis": Problem(
            snomed("239873007", "Osteoarthritis of knee"),
            0.17,
            50,
            medicines=("paracetamol", "naproxen"),
            specialty="110",
        ),
        "reflux": Problem(
            snomed("235595009", "Gastro-oesophageal reflux disease"),
            0.12,
            25,
            medicines=("omeprazole",),
            specialty="300",
        ),
        "osteoporosis": Problem(snomed("64859006", "Osteoporosis"), 0.14, 62, sex="female", specialty="410"),
        "rheumatoid-arthritis": Problem(
            snomed("69896004", "Rheumatoid arthritis"),
            0.02,
            30,
            medicines=("methotrexate",),
            panels=("blood-count", "inflammation"),
            levels=_levels(crp=(6, 38)),
            specialty="410",
        ),
        "migraine": Problem(
            snomed("37796009", "Migraine"), 0.11, 16, 60, medicines=("amitriptyline",), specialty="400"
        ),
        "eczema": Problem(snomed("24079001", "Atopic dermatitis"), 0.14, 0, 30, specialty="420"),
        "hay-fever": Problem(snomed("367498001", "Seasonal allergic rhinitis"), 0.16, 6, specialty="300"),
        "epilepsy": Problem(
            snomed("84757009", "Epilepsy"), 0.015, 5, medicines=("gabapentin",), specialty="400"
        ),
        "alzheimers": Problem(snomed("26929004", "Alzheimer's disease"), 0.12, 76, specialty="430"),
        "breast-cancer": Problem(
            snomed("254837009", "Malignant neoplasm of breast"),
            0.03,
            42,
            sex="female",
            panels=("blood-count",),
            specialty="100",
        ),
        "prostate-cancer": Problem(
            snomed("399068003", "Malignant tumour of prostate"),
            0.05,
            60,
            sex="male",
            panels=("blood-count",),
            specialty="101",
        ),
        "obesity": Problem(
            snomed("162864005", "Body mass index 30+ - obesity"),
            0.18,
            22,
            75,
            panels=("lipids",),
            levels=_levels(weight=(92, 128)),
            specialty="302",
        ),
        "depression": Problem(
            snomed("35489007", "Depressive disorder"),
            0.05,
            17,
            medicines=("sertraline",),
            levels=_levels(phq9=(8, 21)),
            specialty="710",
            sensitivity=("PSY",),
        ),
        "bipolar": Problem(
            snomed("13746004", "Bipolar disorder"),
            0.0,
            18,
            medicines=("olanzapine",),
            panels=("hba1c", "lipids"),
            levels=_levels(phq9=(6, 20)),
            specialty="710",
            sensitivity=("PSY",),
        ),
        "hiv": Problem(
            snomed("86406008", "Human immunodeficiency virus infection"),
            0.0,
            18,
            panels=("hiv", "blood-count"),
            specialty="360",
            sensitivity=("HIV",),
        ),
        "chlamydia": Problem(
            snomed("240589008", "Chlamydia trachomatis infection"),
            0.0,
            16,
            medicines=("doxycycline",),
            specialty="360",
            sensitivity=("SEX", "STD"),
        ),
        "domestic-abuse": Problem(
            snomed("706893006", "Victim of intimate partner abuse"),
            0.0,
            16,
            specialty="180",
            sensitivity=("SDV",),
        ),
        "alcohol-dependence": Problem(
            snomed("66590003", "Alcohol dependence"),
            0.0,
            18,
            medicines=("diazepam",),
            panels=("blood-count", "liver"),
            levels=_levels(alt=(60, 180), mcv=(98, 108)),
            specialty="710",
            sensitivity=("ETH",),
        ),
    }
)

TERMINATION = snomed("714812005", "Induced termination of pregnancy")

ACUTE_PROBLEMS = (
    Problem(snomed("195662009", "Acute viral pharyngitis"), 0.25, 1, medicines=("paracetamol",)),
    Problem(snomed("10509002", "Acute bronchitis"), 0.15, 12, medicines=("doxycycline",)),
    Problem(snomed("36971009", "Sinusitis"), 0.12, 12, medicines=("amoxicillin", "doxycycline")),
    Problem(snomed("65363002", "Otitis media"), 0.3, 0, 12, medicines=("paracetamol",)),
    Problem(snomed("38822007", "Cystitis"), 0.2, 16, sex="female", medicines=("trimethoprim",)),
    Problem(snomed("128045006", "Cellulitis"), 0.08, 18, medicines=("flucloxacillin", "doxycycline")),
    Problem(snomed("278860009", "Chronic low back pain"), 0.15, 20, medicines=("naproxen",)),
    Problem(snomed("44465007", "Sprain of ankle"), 0.1, 8, medicines=("ibuprofen",)),
    Problem(snomed("25064002", "Headache"), 0.12, 8, medicines=("paracetamol",)),
    Problem(snomed("386661006", "Fever"), 0.3, 0, 10, medicines=("paracetamol",)),
)

EMERGENCIES = (
    Problem(
        snomed("233604007", "Pneumonia"),
        0.2,
        40,
        medicines=("doxycycline",),
        panels=("blood-count", "renal", "inflammation"),
        levels=_levels(
            crp=(60, 220),
            temperature=(37.8, 39.4),
            saturation=(88, 94),
            respirations=(20, 28),
            **{"white-cells": (11.0, 19.5)},
        ),
        specialty="300",
    ),
    Problem(
        snomed("74400008", "Appendicitis"),
        0.08,
        8,
        45,
        panels=("blood-count", "inflammation"),
        levels=_levels(crp=(30, 140), temperature=(37.6, 38.8)),
        specialty="100",
    ),
    Problem(snomed("16114001", "Fracture of ankle"), 0.1, 12, 70, panels=("blood-count",), specialty="110"),
    Problem(snomed("65966004", "Fracture of forearm"), 0.2, 4, 30, specialty="110"),
    Problem(
        snomed("22298006", "Myocardial infarction"),
        0.08,
        50,
        medicines=("aspirin", "clopidogrel", "atorvastatin"),
        panels=("blood-count", "renal", "lipids"),
        specialty="320",
    ),
    Problem(snomed("284549007", "Laceration of hand"), 0.15, 3, specialty="180"),
    Problem(snomed("62106007", "Concussion with no loss of consciousness"), 0.1, 3, specialty="180"),
    Problem(
        snomed("195967001", "Asthma"),
        0.08,
        3,
        60,
        medicines=("prednisolone",),
        levels=_levels(saturation=(90, 95), respirations=(20, 28)),
        specialty="340",
    ),
    Problem(
        snomed("68566005", "Urinary tract infectious disease"),
        0.12,
        60,
        medicines=("trimethoprim",),
        panels=("blood-count", "renal", "inflammation"),
        levels=_levels(crp=(30, 120), temperature=(37.5, 38.9)),
        specialty="430",
    ),
)

CHEST_X_RAY = snomed("399208008", "Plain chest X-ray")
PROCEDURES = MappingProxyType(
    {
        "100": snomed("80146002", "Appendicectomy"),
        "101": snomed("65575008", "Biopsy of prostate"),
        "110": snomed("274474001", "Bone immobilisation"),
        "180": snomed("288086009", "Suture open wound"),
        "300": CHEST_X_RAY,
        "320": snomed("40701008", "Echocardiography"),
        "340": snomed("127783003", "Spirometry"),
        "361": snomed("117010004", "Urine culture"),
        "410": snomed("312681000", "Bone density scan"),
        "430": CHEST_X_RAY,
    }
)
