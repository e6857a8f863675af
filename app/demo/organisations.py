"""Who keeps records in the demonstration: three trusts, two practices, their staff and places, all fictional.

The codes have the form of ODS codes and are not issued; ``.example`` and ``ZZ99`` belong to nobody.
"""

from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID, uuid5

from app.demo.catalogue import PRACTICE_SETTING, Code
from app.demo.json_text import Resource
from app.vocabulary import ODS_SYSTEM, OdsCode

NAMESPACE = UUID("6f0b7a52-0d5c-5c0e-9a53-0c9a1d0c5d6e")
"""Of every id in the demonstration: the same thing has the same id in every load."""

SDS_USER_ID = "https://fhir.nhs.uk/Id/sds-user-id"
SDS_ROLE_PROFILE_ID = "https://fhir.nhs.uk/Id/sds-role-profile-id"
JOB_ROLE = "https://fhir.hl7.org.uk/CodeSystem/UKCore-SDSJobRoleName"
ORGANISATION_TYPE = "http://terminology.hl7.org/CodeSystem/organization-type"

CONSULTANT = Code(JOB_ROLE, "R0050", "Consultant")
GENERAL_PRACTITIONER = Code(JOB_ROLE, "R0260", "General Medical Practitioner")

SPECIALTIES = MappingProxyType(
    {
        "100": "General Surgery",
        "101": "Urology",
        "110": "Trauma and Orthopaedics",
        "180": "Emergency Medicine",
        "300": "General Internal Medicine",
        "302": "Endocrinology and Diabetes",
        "320": "Cardiology",
        "340": "Respiratory Medicine",
        "360": "Genitourinary Medicine",
        "361": "Renal Medicine",
        "400": "Neurology",
        "410": "Rheumatology",
        "420": "Paediatrics",
        "430": "Geriatric Medicine",
        "502": "Gynaecology",
        "600": "General Medical Practice",
        "710": "Adult Mental Illness",
    }
)


@dataclass(frozen=True, slots=True)
class Professional:
    """Somebody who works at one organisation. ``user_id`` is in the form of an SDS user id."""

    user_id: str
    title: str
    given: str
    family: str
    gender: str
    specialty: str
    ods: OdsCode

    @property
    def reference(self) -> Resource:
        return {"reference": f"Practitioner/{self.id}", "display": f"{self.title} {self.given} {self.family}"}

    @property
    def id(self) -> str:
        return str(uuid5(NAMESPACE, f"Practitioner/{self.user_id}"))


@dataclass(frozen=True, slots=True)
class Organisation:
    """A custodian of the demonstration."""

    ods: OdsCode
    name: str
    street: str
    town: str
    postcode: str
    phone: str
    is_practice: bool
    domain: str
    """Where its own identifier systems live."""
    places: tuple[str, ...]
    staff: tuple[Professional, ...]

    @property
    def id(self) -> str:
        return str(uuid5(NAMESPACE, f"Organization/{self.ods}"))

    @property
    def reference(self) -> Resource:
        """Literal and logical at once, so that a reader without the directory knows who it is."""
        return {
            "reference": f"Organization/{self.id}",
            "identifier": {"system": ODS_SYSTEM, "value": self.ods},
            "display": self.name,
        }

    @property
    def patient_number_system(self) -> str:
        return f"https://{self.domain}/Id/patient-number"

    def place_id(self, place: str) -> str:
        return str(uuid5(NAMESPACE, f"Location/{self.ods}/{place}"))

    def place(self, index: int) -> Resource:
        name = self.places[index % len(self.places)]
        return {"reference": f"Location/{self.place_id(name)}", "display": name}

    def professional(self, specialty: str) -> Professional:
        """Who looks after ``specialty`` here, or the first of the staff when nobody is named for it."""
        return next((who for who in self.staff if who.specialty == specialty), self.staff[0])


def _staff(ods: str, *rows: tuple[str, str, str, str, str, str]) -> tuple[Professional, ...]:
    return tuple(
        Professional(user_id, title, given, family, gender, specialty, OdsCode(ods))
        for user_id, title, given, family, gender, specialty in rows
    )


ORGANISATIONS = MappingProxyType(
    {
        organisation.ods: organisation
        for organisation in (
            Organisation(
                OdsCode("RZ1"),
                "Larkmere University Hospitals NHS Foundation Trust",
                *("Queen's Road", "Larkmere", "ZZ99 1AA", "01632 960100"),
                is_practice=False,
                domain="larkmere.example",
                places=("Emergency Department", "Acute Medical Unit", "Ward 7", "Outpatients"),
                staff=_staff(
                    "RZ1",
                    ("990100000011", "Dr", "Anjali", "Menon", "female", "300"),
                    ("990100000012", "Dr", "Peter", "Hallam", "male", "180"),
                    ("990100000013", "Dr", "Folasade", "Adebayo", "female", "320"),
                    ("990100000014", "Dr", "Ruth", "Ackroyd", "female", "360"),
                    ("990100000015", "Mr", "Konstantin", "Vasiliev", "male", "110"),
                    ("990100000016", "Dr", "Hugh", "Trevanion", "male", "361"),
                ),
            ),
            Organisation(
                OdsCode("RZ2"),
                "Thornwick General Hospitals NHS Trust",
                *("Harbour Lane", "Thornwick", "ZZ99 2BB", "01632 960200"),
                is_practice=False,
                domain="thornwick.example",
                places=("Accident and Emergency", "Medical Assessment Ward", "Ward 3", "Clinic B"),
                staff=_staff(
                    "RZ2",
                    ("990200000021", "Dr", "Marcus", "Oyelaran", "male", "300"),
                    ("990200000022", "Dr", "Siobhan", "Keane", "female", "180"),
                    ("990200000023", "Dr", "Wei", "Zhang", "male", "302"),
                    ("990200000024", "Miss", "Imogen", "Fairclough", "female", "100"),
                    ("990200000025", "Miss", "Nadia", "Haddad", "female", "502"),
                ),
            ),
            Organisation(
                OdsCode("RZ3"),
                "Ashdale Mental Health and Community NHS Foundation Trust",
                *("The Crescent", "Ashdale", "ZZ99 3CC", "01632 960300"),
                is_practice=False,
                domain="ashdale.example",
                places=("Beech Unit", "Community Hub", "Memory Clinic"),
                staff=_staff(
                    "RZ3",
                    ("990300000031", "Dr", "Eleanor", "Whitcombe", "female", "430"),
                    ("990300000032", "Dr", "Sunil", "Perera", "male", "710"),
                ),
            ),
            Organisation(
                OdsCode("Z99901"),
                "Millbrook Medical Practice",
                *("14 Market Street", "Larkmere", "ZZ99 1DE", "01632 960401"),
                is_practice=True,
                domain="millbrook.example",
                places=("Millbrook Surgery",),
                staff=_staff(
                    "Z99901",
                    ("990400000041", "Dr", "Helen", "Prosser", "female", "600"),
                    ("990400000042", "Dr", "Imran", "Siddiqui", "male", "600"),
                ),
            ),
            Organisation(
                OdsCode("Z99902"),
                "Harbourside Surgery",
                *("2 Quay Walk", "Thornwick", "ZZ99 2FG", "01632 960402"),
                is_practice=True,
                domain="harbourside.example",
                places=("Harbourside Surgery",),
                staff=_staff(
                    "Z99902",
                    ("990500000051", "Dr", "Grace", "Mensah", "female", "600"),
                    ("990500000052", "Dr", "Callum", "Reid", "male", "600"),
                ),
            ),
        )
    }
)

TRUSTS = tuple(ods for ods, organisation in ORGANISATIONS.items() if not organisation.is_practice)
PRACTICES = tuple(ods for ods, organisation in ORGANISATIONS.items() if organisation.is_practice)
MENTAL_HEALTH_TRUST = OdsCode("RZ3")


def directory() -> list[Resource]:
    """Organizations, Locations, Practitioners and PractitionerRoles, each after what it refers to."""
    return [
        resource
        for organisation in ORGANISATIONS.values()
        for resource in (_organization(organisation), *_locations(organisation), *_people(organisation))
    ]


def _organization(organisation: Organisation) -> Resource:
    return {
        "resourceType": "Organization",
        "id": organisation.id,
        "identifier": [{"use": "official", "system": ODS_SYSTEM, "value": organisation.ods}],
        "active": True,
        "type": [
            {"coding": [{"system": ORGANISATION_TYPE, "code": "prov", "display": "Healthcare Provider"}]},
        ],
        "name": organisation.name,
        "telecom": [{"system": "phone", "value": organisation.phone, "use": "work"}],
        "address": [_address(organisation)],
    }


def _address(organisation: Organisation) -> Resource:
    return {
        "use": "work",
        "line": [organisation.street],
        "city": organisation.town,
        "postalCode": organisation.postcode,
        "country": "GBR",
    }


def _locations(organisation: Organisation) -> list[Resource]:
    return [
        {
            "resourceType": "Location",
            "id": organisation.place_id(name),
            "identifier": [{"system": f"https://{organisation.domain}/Id/place", "value": f"{number:03d}"}],
            "status": "active",
            "name": name,
            "mode": "instance",
            "address": _address(organisation),
            "managingOrganization": organisation.reference,
        }
        for number, name in enumerate(organisation.places, 1)
    ]


def _people(organisation: Organisation) -> list[Resource]:
    return [
        resource for who in organisation.staff for resource in (_practitioner(who), _role(who, organisation))
    ]


def _practitioner(who: Professional) -> Resource:
    return {
        "resourceType": "Practitioner",
        "id": who.id,
        "identifier": [{"use": "official", "system": SDS_USER_ID, "value": who.user_id}],
        "active": True,
        "name": [{"use": "official", "family": who.family, "given": [who.given], "prefix": [who.title]}],
        "gender": who.gender,
    }


def _role(who: Professional, organisation: Organisation) -> Resource:
    job = GENERAL_PRACTITIONER if organisation.is_practice else CONSULTANT
    setting = {"system": PRACTICE_SETTING, "code": who.specialty, "display": SPECIALTIES[who.specialty]}
    return {
        "resourceType": "PractitionerRole",
        "id": str(uuid5(NAMESPACE, f"PractitionerRole/{who.user_id}")),
        "identifier": [{"system": SDS_ROLE_PROFILE_ID, "value": f"{who.user_id[:-1]}9{who.user_id[-1]}"}],
        "active": True,
        "practitioner": who.reference,
        "organization": organisation.reference,
        "code": [{"coding": [{"system": job.system, "code": job.code, "display": job.display}]}],
        "specialty": [{"coding": [setting]}],
        "location": [organisation.place(0)],
    }
