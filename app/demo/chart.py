"""One custodian's record of one person while it is written: ids, references, labels, times and the Bundle."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone
from random import Random
from uuid import uuid5

from app.demo.catalogue import ACT_CODE, CONFIDENTIALITY
from app.demo.json_text import Resource
from app.demo.organisations import NAMESPACE, ORGANISATIONS, Organisation, Professional
from app.demo.person import DemoPerson
from app.vocabulary import OdsCode

SENSITIVITIES = {
    "ETH": "substance abuse information sensitivity",
    "HIV": "HIV/AIDS information sensitivity",
    "PSY": "psychiatry disorder information sensitivity",
    "SDV": "sexual assault, abuse, or domestic violence information sensitivity",
    "SEX": "sexuality and reproductive health information sensitivity",
    "STD": "sexually transmitted disease information sensitivity",
}
_RESTRICTED: Resource = {"system": CONFIDENTIALITY, "code": "R", "display": "restricted"}


class Chart:
    """Resources of one Patient in the order of writing; what ``add`` gives resolves inside the Bundle."""

    def __init__(self, person: DemoPerson, ods: OdsCode) -> None:
        self.person = person
        self.organisation: Organisation = ORGANISATIONS[ods]
        self.random = Random(f"{person.seed}/{person.nhs_number.digits}/{ods}")
        self.patient: Resource = {"reference": f"urn:uuid:{person.patient_id(ods)}"}
        self._resources: list[Resource] = []
        self._written: Counter[str] = Counter()

    def add(self, resource: Resource, sensitivity: Sequence[str] = ()) -> Resource:
        """Write ``resource`` down, with an id of its own and, when it is sensitive, labels; its reference."""
        kind = str(resource["resourceType"])
        self._written[kind] += 1
        person = self.person.nhs_number.digits
        id_ = str(uuid5(NAMESPACE, f"{kind}/{self.organisation.ods}/{person}/{self._written[kind]}"))
        return self.add_as(id_, resource, sensitivity)

    def add_as(self, id_: str, resource: Resource, sensitivity: Sequence[str] = ()) -> Resource:
        """The same under an id that is known beforehand."""
        identifier = {"system": f"https://{self.organisation.domain}/Id/record", "value": id_}
        named: Resource = {"resourceType": resource["resourceType"], "id": id_}
        if sensitivity:
            named["meta"] = {"security": [_RESTRICTED, *map(_label, sensitivity)]}
        if "identifier" not in resource:
            named["identifier"] = [identifier]
        self._resources.append({**named, **resource})
        return {"reference": f"urn:uuid:{id_}"}

    def professional(self, specialty: str) -> Professional:
        return self.organisation.professional(specialty)

    def day_between(self, first: date, last: date) -> date:
        """A day from ``first`` to ``last``, within the person's life and not after today."""
        earliest, latest = max(first, self.person.born), min(last, self.person.last_day)
        return earliest + timedelta(days=self.random.randrange(max(1, (latest - earliest).days + 1)))

    def bundle(self) -> Resource:
        """Everything written so far as a transaction Bundle."""
        return transaction(self._resources)


def transaction(resources: Sequence[Resource]) -> Resource:
    """A transaction Bundle that PUTs each resource under its own id; a second load changes nothing."""
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": f"urn:uuid:{resource['id']}",
                "resource": resource,
                "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
            }
            for resource in resources
        ],
    }


def _label(sensitivity: str) -> Resource:
    return {"system": ACT_CODE, "code": sensitivity, "display": SENSITIVITIES[sensitivity]}


def moment(day: date, hour: int, minute: int = 0) -> str:
    """A FHIR dateTime in British clock time, with its offset."""
    zone = timezone(timedelta(hours=1 if _is_summer(day) else 0))
    return datetime.combine(day, time(hour, minute), zone).isoformat()


def _is_summer(day: date) -> bool:
    """From the last Sunday of March to the last of October; nobody is seen at the hour that is changed."""
    return _last_sunday(day.year, 3) <= day < _last_sunday(day.year, 10)


def _last_sunday(year: int, month: int) -> date:
    last = date(year, month, 31)
    return last - timedelta(days=(last.weekday() + 1) % 7)
