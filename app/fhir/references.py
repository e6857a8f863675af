"""A literal reference's text, taken apart (R4 references, literal references).

Here, elsewhere, contained, or something else: only the first names a record of this base.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from app.fhir.definitions import RESOURCE_TYPES

_ID = r"([A-Za-z0-9\-.]{1,64})"
_RESTFUL = re.compile(rf"(?:(https?://.*)/)?([A-Z][A-Za-z]+)/{_ID}(?:/_history/{_ID})?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LiteralReference:
    """``here``: ``Patient/1``, or the same under our own base. ``elsewhere``: under another base.

    ``contained``: ``#id``. ``other``: ``urn:uuid:…``, a conditional reference, a canonical, or no reference at all.
    ``type``, ``id`` and ``version`` are known for the first two; ``text`` is as written.
    """

    where: Literal["here", "elsewhere", "contained", "other"]
    text: str
    type: str | None = None
    id: str = ""
    version: str | None = None

    @property
    def relative(self) -> str:
        """``Type/id``."""
        return f"{self.type}/{self.id}"


@lru_cache(maxsize=4_096)
def read_reference(text: str, base_url: str) -> LiteralReference:
    """``text`` seen from ``base_url``, which has no trailing slash. ``patient/1`` is other: types have a case."""
    if text.startswith("#"):
        return LiteralReference("contained", text)
    found = _RESTFUL.fullmatch(text)
    if found is None or found[2] not in RESOURCE_TYPES:
        return LiteralReference("other", text)
    where: Literal["here", "elsewhere"] = "here" if found[1] in (None, base_url) else "elsewhere"
    return LiteralReference(where, text, found[2], found[3], found[4])


def references_in(text: str, base_url: str) -> Iterator[LiteralReference]:
    """Every literal reference in a resource's text, wherever it stands: contained resources and extensions too."""
    return references_within(json.loads(text), base_url)


def references_within(value: object, base_url: str) -> Iterator[LiteralReference]:
    """The same of a part of a resource, as parsed JSON; in its order."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(found := one.get("reference"), str):
                yield read_reference(found, base_url)
            waiting.extend(reversed(one.values()))
        elif isinstance(one, list):
            waiting.extend(reversed(one))
