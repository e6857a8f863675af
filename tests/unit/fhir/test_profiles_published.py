"""Published examples conform to the profiles they are of, and no mutant of one does."""

import copy
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidResource, Issue
from app.fhir import text, validation
from app.fhir.definitions import json_names, type_definition
from app.fhir.profiles.conformance import Profile, validate_claims, validate_profile
from tests.profile_builder import R4
from tests.published import Json, Published, resources

UK = "https://fhir.hl7.org.uk/StructureDefinition/"


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Published:
    """Everything but R4's own definitions of its types, which callers need not have."""
    hl7 = shared_data / "hl7" / "definitions"
    uk = shared_data / "uk" / "uk-core" / "definitions"
    return Published(
        *(uk / f"{name}.ndjson.xz" for name in ("structuredefinitions", "valuesets", "codesystems")),
        *(shared_data / "ihe" / group / "definitions.ndjson.xz" for group in ("balp", "pcf", "ips")),
        *(hl7 / f"structuredefinitions-{name}.json.xz" for name in ("profiles", "extensions")),
        *(hl7 / f"terminology-{name}.json.xz" for name in ("r4", "v3")),
    )


def read(path: Path) -> Json:
    return text.parse(path.read_bytes()).value


def errors(issues: Sequence[Issue]) -> list[str]:
    return [f"{issue.expression}: {issue.text}" for issue in issues if issue.severity == "error"]


def base_errors(resource: Json) -> list[str]:
    try:
        validation.validate(resource)
    except InvalidResource as error:
        return errors(error.issues)
    return []


def all_errors(
    resource: Json, profile: Profile, published: Published, *, invariants: bool = True
) -> list[str]:
    found = validate_profile(resource, profile, members=published.members, invariants=invariants)
    return [*base_errors(resource), *errors(found)]


# Examples.


def uk_core_examples(shared_data: Path, published: Published) -> Iterator[tuple[str, Json, Profile]]:
    """Each with the profile that its name says, or that of its type when it illustrates an extension."""
    by_name = {url.removeprefix(UK): url for url in published.structures if url.startswith(UK)}
    for path in sorted((shared_data / "uk" / "uk-core" / "examples").glob("*.json")):
        resource = read(path)
        kind = resource["resourceType"]
        of_type = [name for name, url in by_name.items() if published.structures[url]["type"] == kind]
        named = [name for name in of_type if path.stem.startswith(name + "-")]
        url = by_name[max(named, key=len) if named else f"UKCore-{kind}"]
        profile = published.library.profile(url)
        assert profile is not None
        yield path.name, resource, profile


UK_CORE_MISTAKES = {"Extension-UKCore-ConditionEpisode-Example.json": "an extension with two values"}


def test_the_examples_of_uk_core_conform(shared_data: Path, published: Published) -> None:
    broken = {}
    count = 0
    for name, resource, profile in uk_core_examples(shared_data, published):
        count += 1
        if found := all_errors(resource, profile, published):
            broken[name] = found
    assert count == 147
    assert broken.keys() == UK_CORE_MISTAKES.keys(), broken


IHE = [("balp", 23), ("pcf", 13), ("ips", 23)]


def claiming(folder: Path) -> Iterator[tuple[str, Json]]:
    for path in sorted(folder.glob("*.json")):
        resource = read(path)
        if resource.get("meta", {}).get("profile"):
            yield path.name, resource


@pytest.mark.parametrize(("group", "count"), IHE)
def test_the_examples_of_ihe_and_ips_conform_to_what_they_claim(
    group: str, count: int, shared_data: Path, published: Published
) -> None:
    examples = list(claiming(shared_data / "ihe" / group / "examples"))
    for name, resource in examples:
        found = validate_claims(resource, published.library, members=published.members)
        assert base_errors(resource) + errors(found) == [], name
        assert not [issue for issue in found if "this profile" in issue.text], name
    assert len(examples) == count


def test_the_vital_signs_of_hl7_conform(shared_data: Path, published: Published) -> None:
    codes = {
        "bodyweight": "29463-7", "bodyheight": "8302-2", "heartrate": "8867-4", "bodytemp": "8310-5",
        "resprate": "9279-1", "bmi": "39156-5", "bp": "85354-9", "headcircum": "9843-4",
    }  # fmt: skip
    seen: Counter[str] = Counter()
    for resource in resources(shared_data / "hl7" / "examples" / "Observation.ndjson.xz"):
        if R4 + "vitalsigns" not in resource.get("meta", {}).get("profile", ()):
            continue
        codings = {coding["code"] for coding in resource["code"]["coding"]}
        for name in ("vitalsigns", *(name for name, code in codes.items() if code in codings)):
            profile = published.library.profile(R4 + name)
            assert profile is not None
            assert all_errors(resource, profile, published) == [], (resource["id"], name)
            seen[name] += 1
    assert seen["vitalsigns"] == 11
    assert len(seen) >= 6


NHS_MISTAKES = {
    "bars/process_message-POST-body.json": "codes of an earlier edition of UK Core",
    "bars/process_message-POST-success.json": "codes of an earlier edition of UK Core",
    "bars/process_message-request-ValidationRequest-POST-.json": "codes of an earlier edition of UK Core",
    "bars/process_message-response-ValidationRequest-HTTP-Response-.json": "the same; a preference in a contact",
    "bars/service_request-PATCH-body.json": "a ServiceRequest that claims to be an Appointment",
    "bars/slots-GET-success.json": "a code where the extension has a concept",
    "bars/slots-GET-success~2.json": "a code where the extension has a concept",
    "scr/uat-upload_scr-no_consent-1-dissent.request.json": (
        "a Communication that claims to be an Encounter; a vaccine not given without the reason"
    ),
}
"""Looked at one by one; each breaks what the UK Core at hand says."""


def test_nhs_examples_that_claim_uk_core_conform_or_are_known_not_to(
    shared_data: Path, published: Published
) -> None:
    broken: dict[str, list[str]] = {}
    count = 0
    for group in ("bars", "immunisation", "nrl", "ods", "pds", "scr", "sds", "vrs"):
        for path in sorted((shared_data / "uk" / group).rglob("*.json")):
            if UK + "UKCore" in path.read_text():
                count += 1
                found = validate_claims(read(path), published.library, members=published.members)
                if errors(found):
                    broken[f"{group}/{path.name}"] = errors(found)
    assert count > 60
    assert broken.keys() == NHS_MISTAKES.keys(), broken


R4_MISTAKES = {
    "Basic/referral": "modifier extensions that nobody has defined",
    **dict.fromkeys(
        (f"StructureDefinition/{name}" for name in ("Definition", "Event", "FiveWs", "Request")),
        "neither abstract nor derived from anything (sdf-4)",
    ),
}


def test_r4s_own_definitions_accept_r4s_own_examples(shared_data: Path) -> None:
    """All invariants of R4 included, which the base check has only in part."""
    definitions = shared_data / "hl7" / "definitions"
    names = ("structuredefinitions-resources", "structuredefinitions-extensions", "terminology-r4")
    published = Published(*(definitions / f"{name}.json.xz" for name in names))
    broken = {}
    for path in sorted((shared_data / "hl7" / "examples").glob("*.xz")):
        profile = published.library.profile(R4 + path.name.partition(".")[0])
        assert profile is not None
        for resource in resources(path):
            found = validate_profile(resource, profile, members=published.members)
            if errors(found):
                broken[f"{resource['resourceType']}/{resource.get('id')}"] = errors(found)
    assert broken.keys() == R4_MISTAKES.keys(), broken


# Mutants.


def said_of(definition: Json, published: Published) -> list[Json]:
    """The ElementDefinitions of a profile and, for a differential, of the profiles that it derives from."""
    if "snapshot" in definition:
        return list(definition["snapshot"]["element"])
    base = published.structures.get(definition["baseDefinition"])
    return [*(said_of(base, published) if base else ()), *definition["differential"]["element"]]


class Mutants:
    """Changes to what a resource has at an element, each of which breaks what the profile says of it."""

    def __init__(self, elements: list[Json], published: Published) -> None:
        self._least = {element["id"]: element.get("min", 0) for element in elements}
        self._elements = [element for element in elements if "." in element["id"]]
        self._published = published

    def of(self, resource: Json) -> Iterator[tuple[str, Json]]:
        for element in self._elements:
            if self._is_always_there(element["id"]):
                for name, change in self._changes(element):
                    mutant = copy.deepcopy(resource)
                    changed = [change(parent, key) for parent, key in _at(mutant, element["path"])]
                    if any(changed):
                        yield f"{name} {element['id']}", mutant

    def _is_always_there(self, id: str) -> bool:
        """A value that leaves an optional slice breaks nothing, so only required slices are gone into."""
        parts = id.split(".")
        above = [".".join(parts[: place + 1]) for place in range(len(parts))]
        return all(self._least.get(one, 0) > 0 for one in above if ":" in one.rpartition(".")[2])

    def _changes(self, element: Json) -> Iterator[tuple[str, Any]]:
        if element.get("min", 0) > 0:
            yield "without", _remove
        if element.get("max", "*").isdecimal() and ":" not in element["id"]:
            yield "one too many of", _repeat(int(element["max"]))
        if any(name.startswith(("fixed", "pattern")) for name in element):
            yield "another value of", _alter
        binding = element.get("binding", {})
        if binding.get("strength") == "required" and ":" not in element["id"]:
            members = self._published.members(binding.get("valueSet", "").partition("|")[0])
            if members is not None:
                yield "another code of", _alter
        if narrowed := _narrowed(element):
            yield "another type of", _retype(narrowed)


def _at(resource: Json, path: str) -> list[tuple[Json, str]]:
    """(parent, JSON property) of each place in the resource where the path leads to something."""
    parents: list[Any] = [resource]
    *above, last = [part.removesuffix("[x]") for part in path.split(".")[1:]]
    for name in above:
        parents = [
            child for parent in parents for key in _keys(parent, name) for child in _listed(parent[key])
        ]
        parents = [parent for parent in parents if isinstance(parent, dict)]
    return [(parent, key) for parent in parents for key in _keys(parent, last)]


CAPITALS = {name for name in json_names("Extension") if name.startswith("value")}


def _keys(parent: Json, name: str) -> list[str]:
    choices = {name + key.removeprefix("value") for key in CAPITALS}
    return [key for key in parent if key == name or key in choices]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _remove(parent: Json, key: str) -> bool:
    del parent[key]
    parent.pop("_" + key, None)
    return True


def _repeat(most: int) -> Any:
    def repeat(parent: Json, key: str) -> bool:
        if not isinstance(parent[key], list) or most == 0:
            return most == 0
        parent[key] = (parent[key] * (most + 1))[: most + 1]
        return True

    return repeat


def _alter(parent: Json, key: str) -> bool:
    """Every text inside becomes another one."""
    parent[key] = _altered(parent[key])
    return True


def _altered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _altered(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_altered(item) for item in value]
    return not value if isinstance(value, bool) else "not-" + value if isinstance(value, str) else value


def _narrowed(element: Json) -> list[str]:
    """The types that a choice has lost."""
    if not element["path"].endswith("[x]") or ":" in element["id"] or element["path"].count(".") != 1:
        return []
    kept = {one["code"] for one in element.get("type", ())}
    type_name, _, name = element["path"].removesuffix("[x]").partition(".")
    whole = type_definition(type_name).elements[name].types
    return [
        one
        for one in whole
        if kept and one not in kept and one in ("string", "boolean", "dateTime", "Period")
    ]


def _retype(lost: list[str]) -> Any:
    values = {"string": "x", "boolean": True, "dateTime": "2020", "Period": {"start": "2020"}}

    def retype(parent: Json, key: str) -> bool:
        types = {choice.removeprefix("value") for choice in CAPITALS}
        name = max((key[:end] for end in range(len(key)) if key[end:] in types), key=len)
        del parent[key]
        parent[name + lost[0][0].upper() + lost[0][1:]] = values[lost[0]]
        return True

    return retype


def survivors(resource: Json, profile: Profile, published: Published, seen: Counter[str]) -> Iterator[str]:
    """Mutants that neither R4 nor the profile has anything against."""
    elements = said_of(published.structures[profile.url], published)
    for name, mutant in Mutants(elements, published).of(resource):
        found = errors(validate_profile(mutant, profile, members=published.members, invariants=False))
        seen["by the profile" if found else "by R4"] += 1
        seen[name.partition(" ")[0]] += 1
        if not found and not base_errors(mutant):
            yield name


def test_no_mutant_of_an_example_of_uk_core_conforms(shared_data: Path, published: Published) -> None:
    seen: Counter[str] = Counter()
    for name, resource, profile in uk_core_examples(shared_data, published):
        if name not in UK_CORE_MISTAKES:
            assert list(survivors(resource, profile, published, seen)) == [], name
    assert seen["by the profile"] > 90, seen


@pytest.mark.parametrize(("group", "least"), [("balp", 600), ("pcf", 100), ("ips", 80)])
def test_no_mutant_of_an_example_of_ihe_or_ips_conforms(
    group: str, least: int, shared_data: Path, published: Published
) -> None:
    seen: Counter[str] = Counter()
    for name, resource in claiming(shared_data / "ihe" / group / "examples"):
        for canonical in resource["meta"]["profile"]:
            profile = published.library.profile(canonical)
            assert profile is not None
            if len(json.dumps(resource, default=str)) < 20_000:
                assert list(survivors(resource, profile, published, seen)) == [], name
    assert seen["by the profile"] > least, seen


# Extensions.


def extensions(value: Any) -> Iterator[Json]:
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from extensions(child)
    if isinstance(value, dict):
        yield from value.get("extension", [])


def test_no_extension_may_have_another_type_or_stand_elsewhere(
    shared_data: Path, published: Published
) -> None:
    seen: Counter[str] = Counter()
    for name, resource, profile in uk_core_examples(shared_data, published):
        known = [one for one in extensions(resource) if one["url"] in published.structures]
        for place, one in enumerate(known if name not in UK_CORE_MISTAKES else []):
            retyped = copy.deepcopy(resource)
            same = [each for each in extensions(retyped) if each["url"] in published.structures][place]
            if value := next((key for key in same if key.startswith("value")), None):
                del same[value]
                same["valueBase64Binary"] = "AAAA"
                assert errors(validate_profile(retyped, profile, invariants=False)), (name, one["url"])
                seen["another type"] += 1
            contexts = {each["expression"] for each in published.structures[one["url"]]["context"]}
            if not contexts & {"Element", "Resource", "DomainResource", "Meta"}:
                moved = copy.deepcopy(resource)
                moved.setdefault("meta", {})["extension"] = [one]
                assert errors(validate_profile(moved, profile, invariants=False)), (name, one["url"])
                seen["elsewhere"] += 1
    assert seen["another type"] > 40 and seen["elsewhere"] > 40, seen
