"""Derives the search tables of ``app/fhir/r4/`` from HL7's FHIR R4 (4.0.1) definitions.

    python scripts/derive_search_parameters.py DIRECTORY [--into app/fhir/r4]

DIRECTORY holds ``definitions/search-parameters.json.xz`` (the 1,375 base parameters) and
``definitions/compartments/`` as published in the npm package ``hl7.fhir.r4.examples`` 4.0.1 (CC0-1.0; see
NOTICE). The same input gives the same bytes.

``search-parameters.json.xz``: ``[parameter, …]``, each ``{"code", "type", "base": [type, …]}`` and,
where there is one, ``"expression"``, ``"target": [type, …]``, ``"usage"`` (xpathUsage if not ``normal``),
``"component": [[code, type, expression], …]`` of a composite; ``"doc"`` is a text, or one by base type.

``compartments.json``: ``{compartment: {type: [parameter, …]}}``; ``{def}`` means the resource itself.
"""

import argparse
import json
import lzma
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARAMETERS = "definitions/search-parameters.json.xz"
COMPARTMENTS = "definitions/compartments"

# HL7 has the two the wrong way round in DocumentReference-relationship: ``relatesTo.code`` is what the token
# parameter ``relation`` finds, ``relatesTo.target`` what the reference parameter ``relatesto`` finds.
CORRECTED_COMPONENTS = {
    "http://hl7.org/fhir/SearchParameter/DocumentReference-relationship": [
        ["relation", "token", "code"],
        ["relatesto", "reference", "target"],
    ]
}

# "Multiple Resources: * [Condition](condition.html): Who has the condition?"
BULLET = re.compile(r"^\* \[(\w+)\]\([^)]*\): (.*)$", re.MULTILINE)


def search_parameters(directory: Path) -> list[dict[str, Any]]:
    with lzma.open(directory / PARAMETERS, "rt", encoding="utf-8") as file:
        return [entry["resource"] for entry in json.load(file)["entry"]]


def row(parameter: Mapping[str, Any], by_url: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A parameter as its row; absent and default values are left out."""
    components = [
        [
            by_url[component["definition"]]["code"],
            by_url[component["definition"]]["type"],
            component["expression"],
        ]
        for component in parameter.get("component", [])
    ]
    usage = parameter["xpathUsage"]
    fields = {
        "code": parameter["code"],
        "type": parameter["type"],
        "base": parameter["base"],
        "expression": parameter.get("expression"),
        "target": parameter.get("target"),
        "usage": usage if usage != "normal" else None,
        "component": CORRECTED_COMPONENTS.get(parameter["url"], components),
        "doc": documentation(parameter["description"]),
    }
    return {name: value for name, value in fields.items() if value}


def documentation(text: str) -> str | dict[str, str]:
    """One sentence, or one for each base type when HL7 describes them in one list."""
    by_type = {found[1]: found[2].strip() for found in BULLET.finditer(text.replace("\r\n", "\n"))}
    return by_type or " ".join(text.split())


def compartment(definition: Mapping[str, Any]) -> dict[str, list[str]]:
    return {one["code"]: one["param"] for one in definition["resource"] if one.get("param")}


def derive(directory: Path) -> dict[str, bytes]:
    """File name → bytes of every derived file."""
    parameters = search_parameters(directory)
    by_url = {parameter["url"]: parameter for parameter in parameters}
    rows = json.dumps([row(one, by_url) for one in parameters], ensure_ascii=False, separators=(",", ":"))
    definitions = [
        json.loads(path.read_text("utf-8")) for path in sorted((directory / COMPARTMENTS).iterdir())
    ]
    compartments = {one["code"]: compartment(one) for one in definitions}
    return {
        "search-parameters.json.xz": lzma.compress(
            rows.encode(), check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME
        ),
        "compartments.json": lines(compartments).encode(),
    }


def lines(compartments: Mapping[str, Mapping[str, list[str]]]) -> str:
    """JSON with one line a type, so that a difference can be read."""
    blocks = []
    for name, types in compartments.items():
        body = ",\n".join(f"  {json.dumps(code)}: {json.dumps(types[code])}" for code in sorted(types))
        blocks.append(f" {json.dumps(name)}: {{\n{body}\n }}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


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
