"""Codes of SNOMED CT and dm+d for what is prescribed, reacted to, injected and written.

Codes are facts of their terminologies; displays are their own words, as the UK edition spells them.
"""

from dataclasses import dataclass
from types import MappingProxyType

SNOMED = "http://snomed.info/sct"
DMD = "https://dmd.nhs.uk"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ETHNIC_CATEGORY = "https://fhir.hl7.org.uk/CodeSystem/UKCore-EthnicCategoryEngland"
PRACTICE_SETTING = "https://fhir.hl7.org.uk/CodeSystem/UKCore-PracticeSettingCodeEngland"


@dataclass(frozen=True, slots=True)
class Code:
    """A coding: ``system`` is its URI."""

    system: str
    code: str
    display: str


def snomed(code: str, display: str) -> Code:
    """A SNOMED CT concept."""
    return Code(SNOMED, code, display)


@dataclass(frozen=True, slots=True)
class Medicine:
    """A virtual medicinal product of dm+d and how it is usually taken."""

    code: Code
    dosage: str
    per_day: int
    penicillin: bool = False


@dataclass(frozen=True, slots=True)
class Allergen:
    """An allergy as it is recorded, with the reaction that was seen."""

    code: Code
    category: str
    """R4 allergy-intolerance-category: food, medication, environment."""
    reaction: Code
    severity: str
    high_risk: bool = False


@dataclass(frozen=True, slots=True)
class Vaccine:
    """A vaccine and the disease that it protects against."""

    code: Code
    disease: Code


def _medicine(code: str, name: str, dosage: str, per_day: int = 1, *, penicillin: bool = False) -> Medicine:
    return Medicine(Code(DMD, code, name), dosage, per_day, penicillin)


MEDICINES = MappingProxyType(
    {
        "amlodipine": _medicine("319283006", "Amlodipine 5mg tablets", "One to be taken each day"),
        "ramipril": _medicine("318902004", "Ramipril 5mg capsules", "One to be taken each day"),
        "losartan": _medicine("318956006", "Losartan 50mg tablets", "One to be taken each day"),
        "bisoprolol": _medicine("318605000", "Bisoprolol 2.5mg tablets", "One to be taken each morning"),
        "furosemide": _medicine("317972000", "Furosemide 40mg tablets", "One to be taken each morning"),
        "spironolactone": _medicine(
            "318056008", "Spironolactone 25mg tablets", "One to be taken each morning"
        ),
        "apixaban": _medicine("703908001", "Apixaban 5mg tablets", "One to be taken twice a day", 2),
        "clopidogrel": _medicine("319799004", "Clopidogrel 75mg tablets", "One to be taken each day"),
        "aspirin": _medicine("319773006", "Aspirin 75mg dispersible tablets", "One to be taken each day"),
        "atorvastatin": _medicine(
            "39733011000001106", "Atorvastatin 20mg tablets", "One to be taken at night"
        ),
        "metformin": _medicine(
            "325278007", "Metformin 500mg tablets", "One to be taken twice a day with meals", 2
        ),
        "gliclazide": _medicine("325242002", "Gliclazide 80mg tablets", "One to be taken with breakfast"),
        "dapagliflozin": _medicine("703680009", "Dapagliflozin 10mg tablets", "One to be taken each day"),
        "insulin": _medicine(
            "400877001",
            "Insulin glargine 100units/ml solution for injection 3ml pre-filled disposable devices",
            "14 units to be injected at night",
        ),
        "salbutamol": _medicine(
            "39113611000001102",
            "Salbutamol 100micrograms/dose inhaler CFC free",
            "Two puffs when required",
            4,
        ),
        "beclometasone": _medicine(
            "35908111000001105",
            "Beclometasone 100micrograms/dose inhaler CFC free",
            "Two puffs twice a day",
            2,
        ),
        "tiotropium": _medicine(
            "9478911000001107",
            "Tiotropium bromide 18microgram inhalation powder capsules",
            "Inhale one each day",
        ),
        "omeprazole": _medicine(
            "317291008", "Omeprazole 20mg gastro-resistant capsules", "One to be taken each day"
        ),
        "sertraline": _medicine("321959007", "Sertraline 50mg tablets", "One to be taken each day"),
        "mirtazapine": _medicine("375193003", "Mirtazapine 15mg tablets", "One to be taken at night"),
        "olanzapine": _medicine("321614001", "Olanzapine 10mg tablets", "One to be taken at night"),
        "diazepam": _medicine(
            "321197008", "Diazepam 5mg tablets", "One to be taken three times a day, reducing", 3
        ),
        "gabapentin": _medicine(
            "323014008", "Gabapentin 300mg capsules", "One to be taken three times a day", 3
        ),
        "amitriptyline": _medicine("321745007", "Amitriptyline 10mg tablets", "One to be taken at night"),
        "methotrexate": _medicine(
            "326874007", "Methotrexate 2.5mg tablets", "Six to be taken together once a week, on Mondays"
        ),
        "prednisolone": _medicine(
            "325427002", "Prednisolone 5mg tablets", "Six to be taken each morning for 5 days"
        ),
        "paracetamol": _medicine(
            "322236009",
            "Paracetamol 500mg tablets",
            "Two to be taken every 4 to 6 hours; no more than 8 in 24 hours",
            4,
        ),
        "ibuprofen": _medicine(
            "329653008", "Ibuprofen 400mg tablets", "One to be taken three times a day with food", 3
        ),
        "naproxen": _medicine(
            "329807003", "Naproxen 500mg tablets", "One to be taken twice a day with food", 2
        ),
        "trimethoprim": _medicine(
            "324431001", "Trimethoprim 200mg tablets", "One to be taken twice a day for 3 days", 2
        ),
        "doxycycline": _medicine(
            "41948311000001104",
            "Doxycycline 100mg capsules",
            "Two to be taken on the first day, then one each day",
        ),
        "amoxicillin": _medicine(
            "39732411000001106",
            "Amoxicillin 500mg capsules",
            "One to be taken three times a day for 5 days",
            3,
            penicillin=True,
        ),
        "flucloxacillin": _medicine(
            "39692211000001107",
            "Flucloxacillin 500mg capsules",
            "One to be taken four times a day",
            4,
            penicillin=True,
        ),
    }
)

NO_KNOWN_ALLERGY = snomed("716186003", "No known allergy")
_RASH = snomed("271807003", "Eruption of skin")
_ANAPHYLAXIS = snomed("39579001", "Anaphylaxis")
_HIVES = snomed("247472004", "Urticarial rash")
_NAUSEA = snomed("422587007", "Nausea")

ALLERGENS = MappingProxyType(
    {
        "penicillin": Allergen(
            snomed("764146007", "Penicillin"), "medication", _RASH, "moderate", high_risk=True
        ),
        "peanut": Allergen(
            snomed("91935009", "Allergy to peanut"), "food", _ANAPHYLAXIS, "severe", high_risk=True
        ),
        "egg": Allergen(snomed("91930004", "Allergy to egg"), "food", _HIVES, "mild"),
        "shellfish": Allergen(snomed("300913006", "Allergy to shellfish"), "food", _HIVES, "moderate"),
        "latex": Allergen(snomed("300916003", "Allergy to latex"), "environment", _HIVES, "moderate"),
        "house-dust": Allergen(snomed("232350006", "House dust mite allergy"), "environment", _HIVES, "mild"),
        "codeine": Allergen(snomed("387494007", "Codeine"), "medication", _NAUSEA, "mild"),
    }
)

_INFLUENZA = snomed("6142004", "Influenza")
_COVID = snomed("840539006", "COVID-19")

VACCINES = MappingProxyType(
    {
        "influenza": Vaccine(
            Code(
                DMD,
                "39566211000001103",
                "Supemtek Quadrivalent vaccine (recombinant) solution for injection 0.5ml "
                "pre-filled syringes (Sanofi)",
            ),
            _INFLUENZA,
        ),
        "covid": Vaccine(
            Code(
                DMD,
                "39115611000001103",
                "Comirnaty COVID-19 mRNA Vaccine 30micrograms/0.3ml dose concentrate for dispersion "
                "for injection "
                "multidose vials (Pfizer Ltd)",
            ),
            _COVID,
        ),
        "rsv": Vaccine(
            Code(
                DMD,
                "42605811000001109",
                "Abrysvo vaccine powder and solvent for solution for injection 0.5ml vials (Pfizer Ltd)",
            ),
            snomed("55735004", "Respiratory syncytial virus infection"),
        ),
        "dtap-ipv": Vaccine(
            snomed(
                "871878002",
                "Bordetella pertussis and Clostridium tetani and Corynebacterium diphtheriae and "
                "Human poliovirus antigens "
                "only vaccine product",
            ),
            snomed("27836007", "Pertussis"),
        ),
        "mmr": Vaccine(
            snomed("871831003", "MMR (measles and mumps and rubella) vaccine"), snomed("14189004", "Measles")
        ),
    }
)

CONSULTATION = snomed("11429006", "Consultation")
CHECK_UP = snomed("185349003", "Encounter for check up")
FOLLOW_UP = snomed("390906007", "Follow-up encounter")
EMERGENCY_ATTENDANCE = snomed("50849002", "Emergency room admission")
ADMISSION = snomed("32485007", "Hospital admission")
PSYCHIATRIC_INTERVIEW = snomed("79094001", "Initial psychiatric interview with mental status evaluation")
DISCHARGE_LETTER = snomed("824331000000106", "Inpatient final discharge letter")
CLINIC_LETTER = snomed("823681000000100", "Outpatient letter")
