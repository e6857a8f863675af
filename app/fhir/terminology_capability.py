"""The TerminologyCapabilities, generated from the tables that are on board (R4 terminologycapabilities)."""

import json
from collections.abc import Iterator
from typing import Any, Final

from app.fhir import packaged
from app.fhir.terminology_operations import EXPAND

_DOCUMENTED: Final = {
    "filter": "Every word begins a word of a display, a designation or the code. Case and accents do not count.",
    "displayLanguage": "Where there is a designation in that language. Displays are in English.",
    "excludeNested": "Expansions are flat whatever is asked.",
    "excludePostCoordinated": "There is no post-coordinated code in an expansion whatever is asked.",
    "excludeNotForUI": "True leaves out abstract codes.",
    "exclude-system": "A system without a version.",
    "valueSet": "May refer to the value sets and code systems that are known here.",
}


def terminology_capabilities(base_url: str, *, date: str, version: str) -> str:
    """The statement's text, for ``/metadata?mode=terminology``. ``date`` is the instant of publication.

    Code systems are those that are published whole with R4. The text stays the same while a release runs.
    """
    return json.dumps(
        {
            "resourceType": "TerminologyCapabilities",
            "status": "active",
            "date": date,
            "kind": "instance",
            "software": {"name": "Candour", "version": version},
            "implementation": {
                "description": "The code systems and value sets that are published with FHIR R4 (4.0.1).",
                "url": base_url,
            },
            "lockedDate": False,
            "codeSystem": list(_code_systems()),
            "expansion": {
                "hierarchical": False,
                "paging": True,
                "incomplete": False,
                "parameter": list(_parameters()),
                "textFilter": _DOCUMENTED["filter"],
            },
            "codeSearch": "explicit",
            "validateCode": {"translations": True},
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _code_systems() -> Iterator[dict[str, Any]]:
    for (kind, url), one in packaged.index().items():
        if kind == "CodeSystem" and one.content == "complete":
            version = [{"code": one.version, "isDefault": True}] if one.version else []
            yield {"uri": url, **({"version": version} if version else {}), "subsumption": one.has_hierarchy}


def _parameters() -> Iterator[dict[str, str]]:
    for name, kind in EXPAND.items():
        if kind != "unsupported":
            documented = _DOCUMENTED.get(name)
            yield {"name": name, **({"documentation": documented} if documented else {})}
