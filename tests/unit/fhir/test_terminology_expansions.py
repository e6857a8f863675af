"""The value sets of R4 hold what HL7's own expansions of them hold; each difference is named, with its reason.

The official expansions were made by HL7's tools when R4 was published (``valueset-expansions.json``).
"""

import copy
import json
import lzma
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.errors import NotEnumerable
from app.fhir import packaged
from app.fhir.membership import Contained
from app.fhir.terminology import ON_BOARD, Terminology

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "derive_terminology.py"
TABLES = ROOT / "app" / "fhir" / "r4"
R4, THO = "http://hl7.org/fhir/ValueSet/", "http://terminology.hl7.org/ValueSet/"

# HL7's tools had SNOMED CT, LOINC and UCUM at hand, and left off after 1,000 codes. We say that we have them not.
NOT_ENUMERABLE = {
    "http://snomed.info/sct": """
        action-participant-role administration-method-codes adverse-event-type allergyintolerance-code
        approach-site-codes body-site bodystructure-code care-plan-activity-outcome clinical-findings
        clinicalimpression-prognosis condition-code condition-outcome condition-stage condition-stage-type device-action
        device-kind device-type diet-type encounter-reason flag-code food-type immunization-status-reason
        manifestation-or-symptom media-view medication-as-needed-reason medication-codes medication-form-codes
        nutrient-code observation-methods participant-role performer-role practitioner-role
        prepare-patient-prior-specimen-collection procedure-code procedure-not-performed-reason procedure-reason
        questionnaire-answers reason-medication-not-given-codes reason-medication-status-codes route-codes
        specimen-container-type substance-code supply-item
    """,
    "http://loinc.org": """
        care-team-category consent-content-code doc-typecodes observation-codes questionnaire-questions report-codes
    """,
    "http://unitsofmeasure.org": "ucum-units",
    "urn:ietf:bcp:13": "mimetypes",
    # The value set asks for a version of STU 3; HL7's tools took no notice.
    "http://hl7.org/fhir/CodeSystem/task-code, version 3.6.0,": "task-code",
}

# What we hold and the official expansion does not. It never holds what we do not.
MORE = {
    # Left off after 1,000 codes.
    R4 + "c80-doc-typecodes": {"cut off"},
    # Groups are in a value set that takes them in (valueset-operation-expand, excludeNotForUI); HL7's tools left out
    # those that the property notSelectable names.
    R4 + "account-type": {"abstract"},
    R4 + "consent-category": {"abstract"},
    R4 + "coverage-type": {"abstract"},
    R4 + "detectedissue-mitigation-action": {"abstract"},
    R4 + "item-type": {"abstract"},
    R4 + "provenance-activity-type": {"abstract"},
    THO + "v3-ActConsentDirective": {"abstract"},
    THO + "v3-ActReason": {"abstract"},
    THO + "v3-ServiceDeliveryLocationRoleType": {"abstract"},
    # "deprecated" does not mean inactive (ValueSet.compose.inactive), and records hold such codes; HL7's tools left out
    # what has a deprecationDate.
    R4 + "diagnostic-service-sections": {"deprecated"},
    R4 + "observation-interpretation": {"abstract", "deprecated"},
    R4 + "patient-contactrelationship": {"deprecated"},
    R4 + "relatedperson-relationshiptype": {"abstract", "deprecated"},
    R4 + "security-labels": {"abstract", "deprecated"},
    THO + "v2-0487": {"deprecated"},
    THO + "v2-0916": {"deprecated"},
    THO + "v3-ActCode": {"abstract", "deprecated"},
    # A concept is also a kind of those that name it by the property child (concept-properties); HL7's tools followed
    # nesting alone.
    R4 + "detectedissue-category": {"abstract", "second parent"},
    THO + "v3-ActPharmacySupplyType": {"second parent"},
}

# Where both have a code and call it differently.
CALLED_OTHERWISE = {
    # The value set gives no display, and the display is in SNOMED CT or LOINC.
    "not known": """
        condition-severity designation-use doc-section-codes immunization-evaluation-target-disease immunization-reason
        immunization-recommendation-date-criterion immunization-recommendation-reason
        immunization-recommendation-target-disease immunization-target-disease procedure-category procedure-followup
        procedure-outcome referencerange-appliesto
    """,
    # HL7's tools took a designation, the last, for the display.
    "a designation": "languages servicerequest-orderdetail units-of-time",
    # HL7's tools left out white space at the end.
    "trimmed": "consent-category document-classcodes service-type",
}

Key = tuple[str, str]


def read(path: Path) -> list[dict[str, Any]]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [entry["resource"] for entry in json.load(file)["entry"]]


def nested(items: list[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    for item in items:
        yield item
        yield from nested(item.get(name, []), name)


@cache
def published(folder: Path) -> dict[str, dict[str, Any]]:
    names = ("terminology-r4", "terminology-v3", "terminology-v2")
    found = [one for name in names for one in read(folder / "hl7" / "definitions" / f"{name}.json.xz")]
    return {one["url"]: one for one in found}


@pytest.fixture(scope="module")
def official(shared_data: Path) -> Mapping[str, Mapping[Key, str | None]]:
    """URL → (system, code) → display, in the order of the expansion."""
    found = read(shared_data / "hl7" / "definitions" / "valueset-expansions.json.xz")
    return {
        one["url"]: {
            (item["system"], item["code"]): item.get("display")
            for item in nested(one["expansion"].get("contains", []), "contains")
        }
        for one in found
    }


@cache
def ours(url: str) -> Mapping[Key, Contained]:
    value_set = ON_BOARD.value_set(url)
    assert value_set is not None, url
    return {(one.system, one.code): one for one in ON_BOARD.expand(value_set).contains}


def enumerable(official: Mapping[str, Mapping[Key, str | None]]) -> Iterator[str]:
    refused = {name for names in NOT_ENUMERABLE.values() for name in names.split()}
    yield from (url for url in official if url.removeprefix(R4) not in refused)


def test_there_is_an_official_expansion_for_hundreds(
    official: Mapping[str, Mapping[Key, str | None]],
) -> None:
    assert len(official) == 553
    assert len(list(enumerable(official))) == 553 - 52


def test_what_needs_an_absent_code_system_is_refused_by_its_name(
    official: Mapping[str, Mapping[Key, str | None]],
) -> None:
    for system, names in NOT_ENUMERABLE.items():
        for name in names.split():
            assert R4 + name in official
            with pytest.raises(NotEnumerable, match="are not known here") as refusal:
                ours(R4 + name)
            assert system in str(refusal.value), name


def test_nothing_that_the_official_expansions_hold_is_missing(
    official: Mapping[str, Mapping[Key, str | None]],
) -> None:
    missing = {url: official[url].keys() - ours(url).keys() for url in enumerable(official)}
    assert not any(missing.values())


def test_whatever_is_held_besides_is_there_for_a_named_reason(
    official: Mapping[str, Mapping[Key, str | None]], shared_data: Path
) -> None:
    without_second_parents = nesting_alone(shared_data)
    deprecated = with_deprecation_date(shared_data)

    def reason(url: str, key: Key) -> str:
        if ours(url)[key].is_abstract:
            return "abstract"
        if key in deprecated:
            return "deprecated"
        nested_only = without_second_parents.members(url)
        assert nested_only is not None
        return (
            "second parent" if key not in nested_only else "cut off" if len(official[url]) == 1_000 else "?"
        )

    more = {
        url: {reason(url, key) for key in ours(url).keys() - official[url].keys()}
        for url in enumerable(official)
    }
    assert {url: reasons for url, reasons in more.items() if reasons} == MORE


def nesting_alone(shared_data: Path) -> Terminology:
    """With every code system that has the property ``child`` in a later version without it."""
    later = []
    for resource in published(shared_data).values():
        if resource["resourceType"] != "CodeSystem":
            continue
        other = copy.deepcopy(resource)
        other["version"] = other.get("version", "") + ".1"
        for concept in nested(other.get("concept", []), "concept"):
            concept["property"] = [one for one in concept.get("property", []) if one["code"] != "child"]
        later.append(other)
    return Terminology(later)


def with_deprecation_date(shared_data: Path) -> set[Key]:
    return {
        (url, concept["code"])
        for url, resource in published(shared_data).items()
        for concept in nested(resource.get("concept", []), "concept")
        if any(one["code"] == "deprecationDate" for one in concept.get("property", []))
    }


def test_the_order_is_that_of_the_official_expansions(
    official: Mapping[str, Mapping[Key, str | None]],
) -> None:
    for url in enumerable(official):
        assert [key for key in ours(url) if key in official[url]] == list(official[url]), url


def test_a_code_is_called_what_the_official_expansions_call_it(
    official: Mapping[str, Mapping[Key, str | None]],
) -> None:
    found: dict[str, set[str]] = {}
    for url in enumerable(official):
        for key, display in official[url].items():
            one = ours(url)[key]
            if one.display != display:
                found.setdefault(url.removeprefix(R4), set()).add(how_it_differs(one, display))
    assert found == {name: {how} for how, names in CALLED_OTHERWISE.items() for name in names.split()}


def how_it_differs(one: Contained, display: str | None) -> str:
    if one.display is None:
        return "not known"
    if one.display.strip() == display:
        return "trimmed"
    return "a designation" if display in [said.value.strip() for said in one.designations] else "?"


def test_every_code_system_and_value_set_on_board_is_what_is_published(shared_data: Path) -> None:
    """Read from the tables or from the resource itself, it is the same."""
    resources = published(shared_data)
    given = Terminology([one | {"version": "99"} for one in resources.values()])
    for kind, url in packaged.index():
        if url not in resources:
            assert url == "http://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_29.html"
        elif kind == "CodeSystem":
            assert told(ON_BOARD, url) == told(given, url)
        else:
            assert defined(ON_BOARD, url) == defined(given, url)


def told(terminology: Terminology, url: str) -> Any:
    system = terminology.code_system(url)
    assert system is not None
    without_definitions = url == "http://dicom.nema.org/resources/ontology/DCM"
    concepts = {
        code: (
            one.display,
            without_definitions or one.definition,
            set(one.parents),
            {(named.code, str(named.value)) for named in one.properties if named.code != "child"},
            one.is_abstract,
            one.is_inactive,
        )
        for code, one in system.concepts.items()
    }
    return system.content, system.case_sensitive, system.hierarchy_meaning, list(concepts.items())


def defined(terminology: Terminology, url: str) -> Any:
    one = terminology.value_set(url)
    assert one is not None
    parts = [
        (part.system, part.version, [listed.code for listed in part.listed], part.filters, part.value_sets)
        for part in (*one.includes, *one.excludes)
    ]
    return (
        one.name,
        one.status,
        one.experimental,
        one.copyright,
        one.inactive,
        one.locked,
        len(one.includes),
        parts,
    )


def test_the_tables_are_what_the_script_derives_byte_for_byte(shared_data: Path) -> None:
    derived = runpy.run_path(str(SCRIPT))["derive"](shared_data / "hl7")
    assert sum(map(len, derived.values())) < 600_000
    for name, content in derived.items():
        assert (TABLES / name).read_bytes() == content, name


def test_the_script_tells_which_table_is_another_and_leaves_it(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "terminology.tsv.xz").write_bytes((TABLES / "terminology.tsv.xz").read_bytes())
    (tmp_path / "terminology-index.tsv.xz").write_bytes(b"another")
    command = [sys.executable, str(SCRIPT), str(shared_data / "hl7"), "--check", "--into", str(tmp_path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert checked.stderr.rstrip().endswith("give: terminology-index.tsv.xz")
    assert (tmp_path / "terminology-index.tsv.xz").read_bytes() == b"another"
