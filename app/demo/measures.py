"""What is measured: LOINC and SNOMED CT codes, UCUM units, and the range that a healthy adult has."""

from dataclasses import dataclass
from types import MappingProxyType

from app.demo.catalogue import LOINC, Code, snomed


@dataclass(frozen=True, slots=True)
class Measure:
    """One measured quantity; ``low`` to ``high`` is also the printed reference range."""

    loinc: Code
    unit: str
    low: float
    high: float
    places: int
    """Digits after the point that the laboratory or the clinician writes."""
    snomed: Code | None = None
    ucum: str = ""
    """UCUM code, when it is not the unit as printed."""

    @property
    def codes(self) -> tuple[Code, ...]:
        return (self.loinc,) if self.snomed is None else (self.loinc, self.snomed)


@dataclass(frozen=True, slots=True)
class Panel:
    """Measures that are reported together, by name in the order of the report."""

    code: Code
    measures: tuple[str, ...]


def _loinc(code: str, display: str) -> Code:
    return Code(LOINC, code, display)


_IFCC = (
    "Haemoglobin A1c level - "
    "International Federation of Clinical Chemistry and Laboratory Medicine standardised"
)
_CKD_EPI = (
    "Glomerular filtration rate/1.73 sq M.predicted [Volume Rate/Area] "
    "in Serum, Plasma or Blood by Creatinine-based formula (CKD-EPI)"
)
_HBA1C = _loinc("59261-8", "Hemoglobin A1c/Hemoglobin.total in Blood by IFCC protocol")
_CRP = _loinc("1988-5", "C reactive protein [Mass/volume] in Serum or Plasma")
_VIRAL_LOAD = _loinc(
    "20447-9", "HIV 1 RNA [#/volume] (viral load) in Serum or Plasma by NAA with probe detection"
)
_SPO2 = _loinc("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry")
_MCV = _loinc("787-2", "MCV [Entitic mean volume] in Red Blood Cells by Automated count")
_ALT = _loinc("1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma")


def _serum(code: str, substance: str) -> Code:
    return _loinc(code, f"{substance} [Moles/volume] in Serum or Plasma")


def _count(code: str, cells: str) -> Code:
    return _loinc(code, f"{cells} [#/volume] in Blood by Automated count")


_VITAL_SIGNS = {
    "systolic": Measure(
        _loinc("8480-6", "Systolic blood pressure"),
        *("mmHg", 105, 135, 0),
        snomed("72313002", "Systolic arterial pressure"),
        ucum="mm[Hg]",
    ),
    "diastolic": Measure(
        _loinc("8462-4", "Diastolic blood pressure"),
        *("mmHg", 62, 84, 0),
        snomed("1091811000000102", "Diastolic arterial pressure"),
        ucum="mm[Hg]",
    ),
    "pulse": Measure(
        _loinc("8867-4", "Heart rate"), "beats/min", 60, 90, 0, snomed("78564009", "Pulse rate"), ucum="/min"
    ),
    "respirations": Measure(
        _loinc("9279-1", "Respiratory rate"),
        *("breaths/min", 12, 18, 0),
        snomed("86290005", "Respiratory rate"),
        ucum="/min",
    ),
    "temperature": Measure(_loinc("8310-5", "Body temperature"), "°C", 36.1, 37.4, 1, ucum="Cel"),
    "saturation": Measure(_SPO2, "%", 96, 99, 0, snomed("431314004", "Peripheral oxygen saturation")),
    "weight": Measure(_loinc("29463-7", "Body weight"), "kg", 50, 95, 1, snomed("27113001", "Body weight")),
    "height": Measure(
        _loinc("8302-2", "Body height"), "cm", 150, 190, 0, snomed("248333004", "Standing height")
    ),
    "bmi": Measure(
        _loinc("39156-5", "Body mass index (BMI) [Ratio]"),
        *("kg/m2", 18.5, 24.9, 1),
        snomed("60621009", "Body mass index"),
    ),
}

_LABORATORY = {
    "hba1c": Measure(_HBA1C, "mmol/mol", 32, 41, 0, snomed("999791000000106", _IFCC)),
    "egfr": Measure(_loinc("62238-1", _CKD_EPI), "mL/min/1.73m2", 75, 110, 0, ucum="mL/min/{1.73_m2}"),
    "creatinine": Measure(
        _serum("14682-9", "Creatinine"),
        "umol/L",
        55,
        100,
        0,
        snomed("1000731000000107", "Serum creatinine level"),
    ),
    "urea": Measure(_serum("22664-7", "Urea"), "mmol/L", 2.8, 7.6, 1),
    "sodium": Measure(
        _serum("2951-2", "Sodium"), "mmol/L", 134, 145, 0, snomed("1000661000000107", "Serum sodium level")
    ),
    "potassium": Measure(
        _serum("2823-3", "Potassium"),
        "mmol/L",
        3.5,
        5.2,
        1,
        snomed("1000651000000109", "Serum potassium level"),
    ),
    "haemoglobin": Measure(
        _loinc("718-7", "Hemoglobin [Mass/volume] in Blood"),
        *("g/L", 120, 165, 0),
        snomed("1022431000000105", "Haemoglobin estimation"),
    ),
    "white-cells": Measure(
        _count("6690-2", "Leukocytes"),
        "10*9/L",
        4.0,
        10.0,
        2,
        snomed("1022541000000102", "Total white cell count"),
    ),
    "platelets": Measure(
        _count("777-3", "Platelets"), "10*9/L", 150, 400, 0, snomed("1022651000000100", "Platelet count")
    ),
    "mcv": Measure(_MCV, "fL", 83.0, 99.0, 1),
    "neutrophils": Measure(_count("751-8", "Neutrophils"), "10*9/L", 2.0, 7.0, 2),
    "cholesterol": Measure(
        _serum("14647-2", "Cholesterol"),
        "mmol/L",
        3.4,
        5.0,
        2,
        snomed("1005671000000105", "Serum cholesterol level"),
    ),
    "hdl": Measure(_serum("14646-4", "Cholesterol in HDL"), "mmol/L", 1.0, 1.9, 2),
    "triglycerides": Measure(_serum("14927-8", "Triglyceride"), "mmol/L", 0.6, 1.7, 2),
    "crp": Measure(_CRP, "mg/L", 0.6, 5.0, 1),
    "alt": Measure(
        _ALT, "U/L", 10, 45, 0, snomed("1018251000000107", "Serum alanine aminotransferase level")
    ),
    "viral-load": Measure(_VIRAL_LOAD, "copies/mL", 0, 20, 0, ucum="{copies}/mL"),
    "cd4": Measure(
        _loinc("24467-3", "CD3+CD4+ (T4 helper) cells [#/volume] in Blood"),
        *("cells/uL", 500, 1200, 0),
        ucum="{cells}/uL",
    ),
}

PHQ9 = _loinc("44261-6", "Patient Health Questionnaire 9 item (PHQ-9) total score [Reported]")

MEASURES = MappingProxyType(
    {**_VITAL_SIGNS, **_LABORATORY, "phq9": Measure(PHQ9, "{score}", 0, 4, 0)},
)

PANELS = MappingProxyType(
    {
        "blood-count": Panel(
            _loinc("58410-2", "CBC panel - Blood by Automated count"),
            ("haemoglobin", "white-cells", "platelets", "mcv", "neutrophils"),
        ),
        "renal": Panel(
            _loinc("24362-6", "Renal function 2000 panel - Serum or Plasma"),
            ("sodium", "potassium", "urea", "creatinine", "egfr"),
        ),
        "lipids": Panel(
            _loinc("24331-1", "Lipid 1996 panel - Serum or Plasma"), ("cholesterol", "hdl", "triglycerides")
        ),
        "hba1c": Panel(_HBA1C, ("hba1c",)),
        "inflammation": Panel(_CRP, ("crp",)),
        "liver": Panel(_ALT, ("alt",)),
        "hiv": Panel(_VIRAL_LOAD, ("viral-load", "cd4")),
    }
)

BLOOD_PRESSURE = (
    _loinc("85354-9", "Blood pressure panel with all children optional"),
    snomed("75367002", "Blood pressure"),
)
SMOKING_STATUS = (_loinc("72166-2", "Tobacco smoking status"),)
NEVER_SMOKED = snomed("266919005", "Never smoked tobacco")
EX_SMOKER = snomed("8517006", "Ex-smoker")
SMOKER = snomed("77176002", "Smoker")
