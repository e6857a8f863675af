"""Synthea's people as a demonstration: UK identities given to them, their records split over custodians.

``uk-identities.csv`` names each person's Bundle and NHS number. An encounter goes to a custodian by who provided it,
and what refers to the encounter goes with it; every custodian gets a Patient of its own with the NHS number.
"""

import csv
import json
import lzma
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from app.demo.json_text import to_text
from app.vocabulary import NHS_NUMBER_SYSTEM, ODS_SYSTEM, OdsCode

_NAMESPACE = UUID("3b3f4f8e-4d6c-5f3a-8d52-9f6f2f3a1c77")
_DIRECTORY = frozenset({"Organization", "Practitioner", "PractitionerRole", "Location"})

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """One row of ``uk-identities.csv``."""

    bundle: Path
    nhs_number: str
    family: str
    given: str


def write(data: Path, target: Path, custodians: Sequence[OdsCode]) -> None:
    """Files to load under ``target``: the directory at its top, one per custodian and person below."""
    for ods in custodians:
        (target / ods).mkdir(parents=True, exist_ok=True)
    for support in sorted(data.rglob("0-*.json*")):
        shutil.copy(support, target / support.name)
    directory: dict[str, Resource] = {}
    for identity in identities(data):
        resources = _resources(identity.bundle)
        directory |= {
            f"{one['resourceType']}/{one['id']}": one
            for one in resources
            if one["resourceType"] in _DIRECTORY
        }
        for ods, records in split(resources, identity, custodians).items():
            (target / ods / f"1-{identity.nhs_number}.json").write_text(to_text(_transaction(records)))
    (target / "organizations.json").write_text(to_text(_transaction(directory.values())))
    _write_choice(target, data, custodians)


def showcase(target: Path) -> dict[str, str]:
    """Whom the printed commands are about: who keeps out one trust, which, and their Patient at another."""
    chosen: dict[str, str] = json.loads((target / "showcase.json").read_text())
    return chosen


def _write_choice(target: Path, data: Path, custodians: Sequence[OdsCode]) -> None:
    """The first person known to the first custodian keeps out the second."""
    keeper, refused = custodians[:2]
    who = next(one for one in identities(data) if (target / keeper / f"1-{one.nhs_number}.json").exists())
    records = json.loads((target / keeper / f"1-{who.nhs_number}.json").read_text())
    patient_id = records["entry"][0]["resource"]["id"]
    consent = _kept_out(patient_id, refused)
    (target / keeper / f"2-consent-{who.nhs_number}.json").write_text(to_text(_transaction([consent])))
    told = {
        "name": f"{who.given} {who.family}",
        "nhs_number": who.nhs_number,
        "patient_id": patient_id,
        "refused": refused,
    }
    (target / "showcase.json").write_text(json.dumps(told))


def _kept_out(patient_id: str, ods: OdsCode) -> Resource:
    role = {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
    recipient = {"identifier": {"system": ODS_SYSTEM, "value": ods}}
    return {
        "resourceType": "Consent",
        "id": str(uuid5(_NAMESPACE, f"Consent/{patient_id}/{ods}")),
        "status": "active",
        "scope": {"coding": [scope]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient_id}"},
        "dateTime": "2020-01-01",
        "performer": [{"reference": f"Patient/{patient_id}"}],
        "policy": [{"uri": "urn:candour:policy:sharing"}],
        "provision": {"type": "deny", "actor": [{"role": {"coding": [role]}, "reference": recipient}]},
    }


def identities(data: Path) -> list[Identity]:
    with next(data.rglob("uk-identities.csv")).open(newline="") as rows:
        return [
            Identity(
                _bundle(data, row["bundle_file"]), row["nhs_number"], row["family_name"], row["given_name"]
            )
            for row in csv.DictReader(rows)
        ]


def split(
    resources: Sequence[Resource], identity: Identity, custodians: Sequence[OdsCode]
) -> dict[OdsCode, list[Resource]]:
    """A person's resources by custodian. Each keeps its id but the Patient, of whom everyone has a copy."""
    by_url = {f"urn:uuid:{one['id']}": one for one in resources}
    [patient] = [one for one in resources if one["resourceType"] == "Patient"]
    own = [one for one in resources if one["resourceType"] not in _DIRECTORY | {"Patient"}]
    home = {
        f"urn:uuid:{one['id']}": _provider(one, custodians)
        for one in own
        if one["resourceType"] == "Encounter"
    }
    shares: dict[OdsCode, list[Resource]] = {}
    for one in own:
        shares.setdefault(_share(one, home, custodians), []).append(one)
    return {ods: _kept_by(ods, patient, records, identity, by_url) for ods, records in shares.items()}


def _provider(encounter: Resource, custodians: Sequence[OdsCode]) -> OdsCode:
    provider = encounter.get("serviceProvider", {}).get("reference", "")
    return custodians[sha256(provider.encode()).digest()[0] % len(custodians)]


def _share(resource: Resource, home: Mapping[str, OdsCode], custodians: Sequence[OdsCode]) -> OdsCode:
    url = f"urn:uuid:{resource['id']}"
    if url in home:
        return home[url]
    return next((home[reference] for reference in _references(resource) if reference in home), custodians[0])


def _kept_by(
    ods: OdsCode,
    patient: Resource,
    records: Iterable[Resource],
    identity: Identity,
    by_url: Mapping[str, Resource],
) -> list[Resource]:
    id = str(uuid5(_NAMESPACE, f"{ods}/{patient['id']}"))
    names = {url: f"{one['resourceType']}/{one['id']}" for url, one in by_url.items()}
    names[f"urn:uuid:{patient['id']}"] = f"Patient/{id}"
    own_number = {
        "system": f"https://{ods.lower()}.example/Id/patient-number",
        "value": identity.nhs_number[3:],
    }
    identified = {
        **patient,
        "id": id,
        "identifier": [{"system": NHS_NUMBER_SYSTEM, "value": identity.nhs_number}, own_number],
        "name": [{"use": "official", "family": identity.family, "given": [identity.given]}],
    }
    return [_renamed(one, names) for one in (identified, *records)]


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: names.get(one, one) if key == "reference" and isinstance(one, str) else _renamed(one, names)
            for key, one in value.items()
        }
    return [_renamed(one, names) for one in value] if isinstance(value, list) else value


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["reference"]] if isinstance(value.get("reference"), str) else []
        return own + [one for part in value.values() for one in _references(part)]
    return [one for part in value for one in _references(part)] if isinstance(value, list) else []


def _transaction(resources: Iterable[Resource]) -> Resource:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _bundle(data: Path, name: str) -> Path:
    found = [data / name, *data.rglob(Path(name).name)]
    return next(one for one in found if one.exists())


def _resources(path: Path) -> list[Resource]:
    stored = path.read_bytes()
    text = lzma.decompress(stored) if path.suffix == ".xz" else stored
    bundle = json.loads(text, parse_float=Decimal)
    return [entry["resource"] for entry in bundle["entry"]]
