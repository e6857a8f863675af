"""What is loaded: the directory once, then for each person a transaction Bundle per custodian, then their Consents.

Every entry is a PUT under an id made from custodian, NHS number and place in the record, so a second load of the same
people on the same day writes the same resources again and changes nothing.
"""

from app.demo.chart import Chart, transaction
from app.demo.consents import consents_for
from app.demo.hospital import write_hospital_record
from app.demo.json_text import Resource, to_text
from app.demo.organisations import directory
from app.demo.person import DemoPerson
from app.demo.practice import write_practice_record
from app.vocabulary import OdsCode

__all__ = ["bundles_for", "consents_for", "directory_bundle", "to_text"]


def directory_bundle() -> Resource:
    """Organisations, places and staff: what every other Bundle refers to as ``Organization/…`` and so on."""
    return transaction(directory())


def bundles_for(person: DemoPerson) -> list[tuple[OdsCode, Resource]]:
    """The records of a person, one Bundle for each custodian, the practice's first."""
    return [(ods, _record(person, ods)) for ods in person.custodians]


def _record(person: DemoPerson, ods: OdsCode) -> Resource:
    chart = Chart(person, ods)
    if chart.organisation.is_practice:
        write_practice_record(chart)
    else:
        write_hospital_record(chart)
    return chart.bundle()
