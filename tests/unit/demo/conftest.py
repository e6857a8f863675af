"""One population of the default size, made once for every test of the generator."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from app.demo.bundles import bundles_for, consents_for, directory_bundle
from app.demo.people import generate
from app.demo.person import DemoPerson

AS_OF = date(2026, 11, 1)


@dataclass(frozen=True)
class Population:
    """``records`` and ``consents`` by NHS number, then by custodian: the resources of each Bundle."""

    people: list[DemoPerson]
    directory: list[dict[str, Any]]
    records: Mapping[str, Mapping[str, list[dict[str, Any]]]]
    consents: Mapping[str, Mapping[str, list[dict[str, Any]]]]

    def resources(self) -> Iterator[tuple[DemoPerson, str, dict[str, Any]]]:
        for person in self.people:
            for kept in (self.records, self.consents):
                for ods, resources in kept[person.nhs_number.digits].items():
                    for resource in resources:
                        yield person, ods, resource


def resources_of(bundle: Any) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"]]


@pytest.fixture(scope="session")
def population() -> Population:
    people = list(generate(seed=1, people=60, as_of=AS_OF))
    return Population(
        people=people,
        directory=resources_of(directory_bundle()),
        records={
            each.nhs_number.digits: {ods: resources_of(bundle) for ods, bundle in bundles_for(each)}
            for each in people
        },
        consents={
            each.nhs_number.digits: {ods: resources_of(bundle) for ods, bundle in consents_for(each)}
            for each in people
        },
    )
