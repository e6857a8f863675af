"""The Patient that each custodian keeps: the same person, now and then with a misspelt name or an address of before."""

import unicodedata

from app.demo.chart import Chart
from app.demo.json_text import Resource
from app.demo.organisations import ORGANISATIONS
from app.demo.person import Address
from app.demo.resources import concept
from app.vocabulary import NHS_NUMBER_SYSTEM

_UK_CORE = "https://fhir.hl7.org.uk"
_VERIFIED: Resource = {
    "url": f"{_UK_CORE}/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",
    "valueCodeableConcept": {
        "coding": [
            {
                "system": f"{_UK_CORE}/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
                "code": "01",
                "display": "Number present and verified",
            }
        ]
    },
}


def patient(chart: Chart) -> Resource:
    """The person as this custodian knows them, with its own number and the verified NHS number."""
    person, ods = chart.person, chart.organisation.ods
    family = misspelt(person.family) if person.misspelt_at == ods else person.family
    address = person.former_address if person.move_unknown_to == ods else person.address
    return {
        "resourceType": "Patient",
        "extension": [
            {
                "url": f"{_UK_CORE}/StructureDefinition/Extension-UKCore-EthnicCategory",
                "valueCodeableConcept": concept(person.ethnicity),
            }
        ],
        "identifier": [
            {
                "extension": [_VERIFIED],
                "use": "official",
                "system": NHS_NUMBER_SYSTEM,
                "value": person.nhs_number.digits,
            },
            {
                "use": "usual",
                "system": chart.organisation.patient_number_system,
                "value": _local_number(chart),
            },
        ],
        "active": True,
        "name": [{"use": "official", "family": family, "given": [person.given], "prefix": [person.title]}],
        "telecom": [{"system": "phone", "value": person.phone, "use": "mobile"}],
        "gender": person.gender,
        "birthDate": person.born.isoformat(),
        **({} if person.died is None else {"deceasedDateTime": person.died.isoformat()}),
        "address": [_address(address)],
        "generalPractitioner": [ORGANISATIONS[person.practice].reference],
        "managingOrganization": chart.organisation.reference,
    }


def _address(address: Address) -> Resource:
    return {
        "use": "home",
        "line": [address.line],
        "city": address.town,
        "postalCode": address.postcode,
        "country": "GBR",
    }


def _local_number(chart: Chart) -> str:
    """A number of the custodian's own: different for every NHS number, and telling nothing of it at a glance."""
    stem = int(chart.person.nhs_number.digits[3:9])
    offset = int(chart.organisation.id[:4], 16)
    return f"{chart.organisation.ods[-1]}{(stem * 617_291 + offset) % 1_000_000:06d}"


def misspelt(family: str) -> str:
    """``family`` as somebody in a hurry would write it; never the same as it was."""
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", family) if not unicodedata.combining(sign))
    if plain != family:
        return plain
    for proper, slip in (
        ("-", " "),
        ("'", ""),
        ("Mac", "Mc"),
        ("ll", "l"),
        ("tt", "t"),
        ("ea", "ee"),
        ("ar", "er"),
    ):
        if proper in family:
            return family.replace(proper, slip, 1)
    return f"{family}e"
