"""Derives the terminology tables of ``app/fhir/r4/`` from HL7's FHIR R4 (4.0.1) definitions.

    python scripts/derive_terminology.py DIRECTORY [--into app/fhir/r4] [--check]

DIRECTORY holds ``definitions/terminology-r4.json.xz``, ``…-v3.json.xz``, ``…-v2.json.xz`` and
``definitions/valueset-expansions.json.xz`` as published in the npm package ``hl7.fhir.r4.examples`` 4.0.1 (CC0-1.0;
see NOTICE). The same input gives the same bytes. ``--check`` writes nothing and fails when a table is another.

``terminology.tsv.xz``: one line a resource, in code point order of its URL within its kind: URL, tab, JSON object. It
is a row of xz streams one after another, each of whole lines and some 256 kB when unpacked, so that one resource costs
the reading of one stream. Absent members are left out, and a title that is the name.

* A CodeSystem has ``version``, ``name``, ``title``, ``content``, ``caseSensitive``, ``hierarchyMeaning``, ``valueSet``,
  and columns with an item for each concept in the order of the resource: ``code``; ``display``; ``definition``, true
  when it is the display; ``parent``, a list of places in ``code``. A column without a value is left out. ``property``
  is ``[[place, code, type, value], …]``, ``designation`` is ``[[place, language, use, value], …]``.
* A ValueSet has ``version``, ``name``, ``title``, ``status``, ``experimental``, ``copyright``, ``inactive``, ``locked``
  (lockedDate) and ``include``, ``exclude``: lists of objects with ``system``, ``version``, ``valueSet``, ``filter``
  ``[[property, op, value], …]``, and ``code``, ``display``, ``designation`` as above (a display is left out when it is
  the code system's). ``expansion`` is there for the few whose code system is not published with R4 but whose whole
  content is.

``terminology-index.tsv.xz``: one line a resource: kind, tab, URL, tab, JSON object with ``at`` (offset and length of
its stream in bytes), ``version``, and for a CodeSystem ``content``, ``hierarchy`` (true when concepts have parents) and
``valueSet`` (the value set of all its codes, when R4 publishes no such resource).
"""

import argparse
import json
import lzma
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

TERMINOLOGIES = ("r4", "v3", "v2")
EXPANSIONS = "definitions/valueset-expansions.json.xz"
DISPLAY = "http://terminology.hl7.org/CodeSystem/designation-usage"

# Bytes of an unpacked stream. Smaller ones are read faster and together pack worse.
STREAM = 256 * 1024

# The definitions are NEMA's text, and an eighth of all the tables.
WITHOUT_DEFINITIONS = frozenset({"http://dicom.nema.org/resources/ontology/DCM"})

# The v2 tables' translations (Dutch and German) would be a twelfth of all the tables.
WITHOUT_DESIGNATIONS = "http://terminology.hl7.org/CodeSystem/v2-"

# Whole (neither cut off nor open), and over systems that are not published with R4.
PUBLISHED_EXPANSIONS = frozenset(
    {
        "http://hl7.org/fhir/ValueSet/currencies",
        "http://hl7.org/fhir/ValueSet/formatcodes",
        "http://hl7.org/fhir/ValueSet/vaccine-code",
    }
)

# Codes of DICOM that ImagingStudy.modality is bound to; published among the expansions only.
ONLY_AMONG_EXPANSIONS = frozenset(
    {"http://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_29.html"}
)

Resource = dict[str, Any]

LZMA = {
    "id": lzma.FILTER_LZMA2,
    "preset": 9 | lzma.PRESET_EXTREME,
    "lc": 4,
    "lp": 0,
    "pb": 0,
    "nice_len": 273,
}


def resources_in(path: Path) -> list[Resource]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [entry["resource"] for entry in json.load(file)["entry"]]


def published(directory: Path) -> dict[tuple[str, str], Resource]:
    """(kind, URL) → resource. A supplement defines no concept and is left out."""
    found = [
        resource
        for name in TERMINOLOGIES
        for resource in resources_in(directory / f"definitions/terminology-{name}.json.xz")
        if resource.get("content") != "supplement"
    ]
    for resource in resources_in(directory / EXPANSIONS):
        if resource["url"] in ONLY_AMONG_EXPANSIONS:
            found.append(resource)
    by_name = {(resource["resourceType"], resource["url"]): resource for resource in found}
    for resource in resources_in(directory / EXPANSIONS):
        if resource["url"] in PUBLISHED_EXPANSIONS:
            by_name["ValueSet", resource["url"]]["expansion"] = resource["expansion"]
    return by_name


def members(resource: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: resource[name] for name in names if name in resource}


def names_of(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Version, name, and the title unless it is the name again."""
    found = members(resource, "version", "name", "title")
    return found if found.get("title") != found.get("name") else members(found, "version", "name")


def filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without empty columns."""
    return {name: value for name, value in fields.items() if value not in (None, [], {}) and any_in(value)}


def any_in(value: Any) -> bool:
    return any(one not in (None, []) for one in value) if isinstance(value, list) else True


# Code systems


def with_parents(
    concepts: Iterable[Resource], parent: Resource | None = None
) -> Iterator[tuple[Resource, list[str]]]:
    for concept in concepts:
        yield concept, [parent["code"]] if parent else []
        yield from with_parents(concept.get("concept", ()), concept)


def code_system_row(system: Resource) -> dict[str, Any]:
    concepts = list(with_parents(system.get("concept", ())))
    places = {concept["code"]: place for place, (concept, _) in enumerate(concepts)}
    parents = [[places[code] for code in codes] for _, codes in concepts]
    for place, (concept, _) in enumerate(concepts):
        for child in children_named(concept):
            if place not in parents[places[child]]:
                parents[places[child]].append(place)
    only = [concept for concept, _ in concepts]
    head = names_of(system) | members(system, "content", "caseSensitive", "hierarchyMeaning", "valueSet")
    return head | filled(
        {
            "code": [concept["code"] for concept in only],
            "display": [concept.get("display") for concept in only],
            "definition": [definition(system["url"], concept) for concept in only],
            "parent": parents,
            "property": [one for place, concept in enumerate(only) for one in properties(place, concept)],
            "designation": []
            if system["url"].startswith(WITHOUT_DESIGNATIONS)
            else [one for place, concept in enumerate(only) for one in designations(place, concept)],
        }
    )


def children_named(concept: Resource) -> list[str]:
    """Where a concept has a second parent, v3 names it there as a child."""
    return [one["valueCode"] for one in concept.get("property", ()) if one["code"] == "child"]


def definition(url: str, concept: Resource) -> str | bool | None:
    text: str | None = concept.get("definition")
    if url in WITHOUT_DEFINITIONS or not text:
        return None
    return True if text == concept.get("display") else text


def properties(place: int, concept: Resource) -> Iterator[list[Any]]:
    for one in concept.get("property", ()):
        if one["code"] != "child":
            (name,) = (name for name in one if name.startswith("value"))
            kind = name.removeprefix("value")
            yield [place, one["code"], kind[0].lower() + kind[1:], one[name]]


def designations(place: int, concept: Resource) -> Iterator[list[Any]]:
    for one in concept.get("designation", ()):
        use = members(one.get("use", {}), "system", "code", "display")
        # What is for display needs no word.
        plain = use.get("system") == DISPLAY and use.get("code") == "display"
        yield [place, one.get("language"), None if plain else use or None, one["value"]]


# Value sets


def value_set_row(value_set: Resource, systems: Mapping[str, Mapping[str, str | None]]) -> dict[str, Any]:
    compose = value_set["compose"]
    row = names_of(value_set) | members(value_set, "status", "experimental", "copyright")
    row |= members(compose, "inactive")
    if "lockedDate" in compose:
        row["locked"] = compose["lockedDate"]
    for kind in ("include", "exclude"):
        if kind in compose:
            row[kind] = [part_row(part, systems) for part in compose[kind]]
    if "expansion" in value_set and value_set["url"] in PUBLISHED_EXPANSIONS:
        row["expansion"] = list(expansion_rows(value_set["expansion"]))
    return row


def part_row(part: Resource, systems: Mapping[str, Mapping[str, str | None]]) -> dict[str, Any]:
    listed = part.get("concept", [])
    known = systems.get(part.get("system", ""), {})
    shown = [concept.get("display") for concept in listed]
    return members(part, "system", "version", "valueSet") | filled(
        {
            "filter": [[one["property"], one["op"], one["value"]] for one in part.get("filter", ())],
            "code": [concept["code"] for concept in listed],
            "display": [
                None if text == known.get(concept["code"]) else text
                for text, concept in zip(shown, listed, strict=True)
            ],
            "designation": [
                one for place, concept in enumerate(listed) for one in designations(place, concept)
            ],
        }
    )


def expansion_rows(expansion: Resource) -> Iterator[dict[str, Any]]:
    """As lists of codes of one system each."""
    if "extension" in expansion or any("contains" in one for one in expansion["contains"]):
        raise ValueError("an expansion that is cut off, open or nested")
    by_system: dict[str, list[Resource]] = {}
    for one in expansion["contains"]:
        by_system.setdefault(one["system"], []).append(one)
    for system, listed in by_system.items():
        yield {
            "system": system,
            "code": [one["code"] for one in listed],
            "display": [one.get("display") for one in listed],
        }


# Tables


def streams(lines: Iterable[tuple[tuple[str, str], bytes]]) -> Iterator[tuple[list[tuple[str, str]], bytes]]:
    """Lines put together into streams of at most ``STREAM`` bytes, longer only for a single line."""
    names: list[tuple[str, str]] = []
    text = b""
    for name, line in lines:
        if text and len(text) + len(line) > STREAM:
            yield names, text
            names, text = [], b""
        names.append(name)
        text += line
    yield names, text


def derive(directory: Path) -> dict[str, bytes]:
    """File name → bytes of every derived file."""
    resources = published(directory)
    displays = {
        url: {concept["code"]: concept.get("display") for concept, _ in with_parents(one.get("concept", ()))}
        for (kind, url), one in resources.items()
        if kind == "CodeSystem"
    }
    rows = {
        name: code_system_row(resources[name])
        if name[0] == "CodeSystem"
        else value_set_row(resources[name], displays)
        for name in sorted(resources)
    }
    lines = [(name, f"{name[1]}\t{compact(row)}\n".encode()) for name, row in rows.items()]
    table = b""
    places: dict[tuple[str, str], list[int]] = {}
    for names, text in streams(lines):
        packed = pack(text)
        places |= {name: [len(table), len(packed)] for name in names}
        table += packed
    index = "".join(
        f"{kind}\t{url}\t{compact(index_row(kind, rows[kind, url], places[kind, url], resources))}\n"
        for kind, url in rows
    )
    return {"terminology.tsv.xz": table, "terminology-index.tsv.xz": pack(index.encode())}


def index_row(
    kind: str, row: Mapping[str, Any], place: list[int], resources: Mapping[tuple[str, str], Resource]
) -> dict[str, Any]:
    entry = {"at": place} | members(row, "version")
    if kind == "CodeSystem":
        entry |= members(row, "content") | ({"hierarchy": True} if "parent" in row else {})
        if "valueSet" in row and ("ValueSet", row["valueSet"]) not in resources:
            entry["valueSet"] = row["valueSet"]
    return entry


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def pack(text: bytes) -> bytes:
    return lzma.compress(text, check=lzma.CHECK_CRC32, filters=[LZMA])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "app" / "fhir" / "r4")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a table is another")
    arguments = parser.parse_args()
    tables = derive(arguments.directory)
    if arguments.check:
        stale = [name for name, content in tables.items() if not same(arguments.into / name, content)]
        sys.exit(f"not what the definitions give: {', '.join(stale)}" if stale else 0)
    arguments.into.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        (arguments.into / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")


def same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


if __name__ == "__main__":
    main()
