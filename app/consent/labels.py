"""Labels given in the transaction that writes a resource, so that nothing stays unlabelled (rule version ``labels-1``).

A custodian's own labels are kept. What it did not label is normal; what it called sensitive without saying how
confidential is restricted.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from app.fhir.facets import Facets
from app.fhir.sensitivity import LEVELS, UNLABELLED
from app.fhir.systems import CONFIDENTIALITY

RULES_VERSION: Final = "labels-1"

_DISPLAYS: Final = {"N": "normal", "R": "restricted"}


def label(resource: Mapping[str, Any], facets: Facets) -> tuple[Facets, tuple[dict[str, str], ...]]:
    """The facets with every label, and the Codings to be added to ``meta.security``.

    ``facets`` are those of ``resource``. Where its custodian has given a confidentiality, nothing is added.
    """
    if facets.confidentiality != UNLABELLED:
        return facets, ()
    code = "R" if facets.sensitivity else "N"
    coding = {"system": CONFIDENTIALITY, "code": code, "display": _DISPLAYS[code]}
    return replace(facets, confidentiality=LEVELS[code]), (coding,)
