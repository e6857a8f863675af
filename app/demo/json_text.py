"""Resources as JSON text whose decimals keep their digits: ``Decimal("6.30")`` is written ``6.30``."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal

Resource = dict[str, object]
"""A FHIR resource or element as Python values; every number with a point is a Decimal."""

# The C encoder writes a float its own way, so a Decimal passes through it as a marked string, and the
# quotes and the mark are taken off afterwards. U+0000 cannot occur otherwise: FHIR forbids it in a string.
_MARKED = re.compile(r'"\\u0000([0-9.-]+)"')


def _marked(value: object) -> str:
    if not isinstance(value, Decimal):
        raise TypeError(f"a resource cannot hold a {type(value).__name__}")
    return f"\0{value:f}"


def to_text(resource: Mapping[str, object]) -> str:
    """``resource`` on one line, in UTF-8 characters. Raises TypeError for a value that JSON does not have."""
    text = json.dumps(resource, default=_marked, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _MARKED.sub(r"\1", text)
