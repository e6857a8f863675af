"""Derives ``app/fhir/r4/*.xz`` from HL7's FHIR R4 (4.0.1) definitions; the product needs no other source.

    python scripts/derive_definitions.py DIRECTORY [--into app/fhir/r4]

DIRECTORY holds ``definitions/structuredefinitions-types.json.xz``, ``…-resources.json.xz`` and
``valueset-expansions.json.xz`` as published in the npm package ``hl7.fhir.r4.examples`` 4.0.1 (CC0-1.0; see
NOTICE). The same input gives the same bytes.

``types.tsv.xz``: one line a type, in code point order: name, tab, JSON object
``{"k": kind, "b": base type or absent, "e": [element, …]}``, elements in the StructureDefinition's order. An
element is ``[name, [type, …], min, max or null, flags, [target, …], value set or null, nested or null]``;
flags is a string of ``c`` (choice), ``s`` (isSummary), ``m`` (isModifier).

``codes.tsv.xz``: one line a value set of a required binding: canonical without version, tab,
``{system: [code, …]}``, or ``null`` when the value set cannot be enumerated.
"""

import argparse
import json
import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RESOURCES = "definitions/structuredefinitions-resources.json.xz"
TYPES = "definitions/structuredefinitions-types.json.xz"
EXPANSIONS = "definitions/valueset-expansions.json.xz"

FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
SYSTEM_TYPE = "http://hl7.org/fhirpath/System."
DEFINITION = "http://hl7.org/fhir/StructureDefinition/"

# Their expansions are absent (BCP 13, a LOINC answer list) or cut off after 1,000 codes (UCUM has no end).
NOT_ENUMERABLE = frozenset(
    {
        "http://hl7.org/fhir/ValueSet/mimetypes",
        "http://hl7.org/fhir/ValueSet/ucum-units",
        "http://loinc.org/vs/LL379-9",
    }
)

KINDS = {"resource": "resource", "complex-type": "complex", "primitive-type": "primitive"}


def resources_in(path: Path) -> list[dict[str, Any]]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [entry["resource"] for entry in json.load(file)["entry"]]


def structure_definitions(directory: Path) -> Iterator[dict[str, Any]]:
    """Every type of R4 itself: no profile (SimpleQuantity), no logical model (MetadataResource)."""
    for name in (TYPES, RESOURCES):
        for resource in resources_in(directory / name):
            if resource["resourceType"] != "StructureDefinition":
                continue
            if resource["kind"] in KINDS and resource.get("derivation") != "constraint":
                yield resource


def types_of(structure: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The type itself, then one for every element with children, named by its path."""
    elements = structure["snapshot"]["element"]
    parents = {element["path"].rpartition(".")[0] for element in elements}
    for path in sorted(parents - {""}):
        children = [element for element in elements if element["path"].rpartition(".")[0] == path]
        yield (
            path,
            {"e": [element_row(child, parents) for child in children]} | kind_of(path, structure, elements),
        )


def kind_of(path: str, structure: Mapping[str, Any], elements: list[dict[str, Any]]) -> dict[str, str]:
    if path != structure["name"]:
        own = next(element for element in elements if element["path"] == path)
        return {"k": "backbone", "b": own["type"][0]["code"]}
    base = structure.get("baseDefinition", "").removeprefix(DEFINITION)
    return {"k": KINDS[structure["kind"]]} | ({"b": base} if base else {})


def element_row(element: Mapping[str, Any], parents: set[str]) -> list[Any]:
    path = element["path"]
    name = path.rpartition(".")[2].removesuffix("[x]")
    flags = (
        "c" * path.endswith("[x]")
        + "s" * element.get("isSummary", False)
        + "m" * element.get("isModifier", False)
    )
    maximum = None if element["max"] == "*" else int(element["max"])
    nested = element.get("contentReference", "").removeprefix("#") or (path if path in parents else None)
    types = ["BackboneElement"] if "contentReference" in element else type_codes(path, element)
    return [
        name,
        types,
        element["min"],
        maximum,
        flags,
        targets(element),
        required_value_set(element),
        nested,
    ]


def type_codes(path: str, element: Mapping[str, Any]) -> list[str]:
    """FHIR type names. A ``System.String`` stands for the FHIR type that its extension names.

    R4 writes ``string`` for Resource.id there; its own page says ``id`` (resource.html#id).
    """
    codes = []
    for entry in element["type"]:
        code = entry["code"]
        if code.startswith(SYSTEM_TYPE):
            named = [
                extension["valueUrl"]
                for extension in entry.get("extension", [])
                if extension["url"] == FHIR_TYPE
            ]
            code = named[0] if named else code.removeprefix(SYSTEM_TYPE).lower()
        codes.append("id" if element["base"]["path"] == "Resource.id" else code)
    return list(dict.fromkeys(codes))


def targets(element: Mapping[str, Any]) -> list[str]:
    """Reference (and canonical) targets; a target ``Resource`` means any and is kept as such."""
    profiles = [
        profile
        for entry in element.get("type", [])
        if entry["code"] == "Reference"
        for profile in entry.get("targetProfile", [])
    ]
    return list(dict.fromkeys(profile.removeprefix(DEFINITION) for profile in profiles))


def required_value_set(element: Mapping[str, Any]) -> str | None:
    binding = element.get("binding", {})
    if binding.get("strength") != "required":
        return None
    canonical: str = binding["valueSet"]
    return canonical.partition("|")[0]


def concepts(contains: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for concept in contains:
        yield concept
        yield from concepts(concept.get("contains", []))


def code_table(expansion: Mapping[str, Any]) -> dict[str, list[str]]:
    """``{system: [code, …]}`` in the order of the expansion."""
    table: dict[str, dict[str, None]] = {}
    for concept in concepts(expansion["expansion"].get("contains", [])):
        table.setdefault(concept["system"], {})[concept["code"]] = None
    return {system: list(codes) for system, codes in table.items()}


def derive(directory: Path) -> dict[str, bytes]:
    """File name → bytes of every derived file."""
    types = {
        name: body for structure in structure_definitions(directory) for name, body in types_of(structure)
    }
    bound = {row[6] for body in types.values() for row in body["e"]} - {None}
    expansions = {resource["url"]: resource for resource in resources_in(directory / EXPANSIONS)}
    codes = {url: None if url in NOT_ENUMERABLE else code_table(expansions[url]) for url in bound}
    return {"types.tsv.xz": table_bytes(types), "codes.tsv.xz": table_bytes(codes)}


def table_bytes(rows: Mapping[str, Any]) -> bytes:
    lines = (f"{name}\t{json.dumps(rows[name], separators=(',', ':'))}\n" for name in sorted(rows))
    return lzma.compress("".join(lines).encode(), check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "app" / "fhir" / "r4")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    for name, content in derive(arguments.directory).items():
        (arguments.into / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")


if __name__ == "__main__":
    main()
