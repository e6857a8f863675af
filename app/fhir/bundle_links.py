"""How the entries of a transaction refer to one another, and to what a search finds (R4 http, 3.1.0.11.2).

An entry is referred to by what it calls itself, its fullUrl: absolutely, relatively to the root of a RESTful one (R4
bundle, 2.36.4.1), and with a version. A reference may also be a search: ``Patient?identifier=…``.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.errors import BadRequest
from app.fhir.bundled import root_of
from app.fhir.definitions import RESOURCE_TYPES

_STRING: Final = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"')
_REFERENCE: Final = re.compile(r'"reference"[ \t\r\n]*:[ \t\r\n]*"([^"\\]*(?:\\.[^"\\]*)*)"')
_NARRATIVE_LINK: Final = re.compile(r"""(?:href|src)\s*=\s*(?:"([^"<>]*)"|'([^'<>]*)')""")
_VERSIONED: Final = re.compile(r"(.+)/_history/[A-Za-z0-9\-.]{1,64}\Z")
_SEARCH: Final = re.compile(r"([A-Za-z]+)\?")
_PATCHED_SEARCH: Final = re.compile(r"([A-Z][A-Za-z]+)\?[^\s=]+=")


@dataclass(frozen=True, slots=True)
class Links:
    """What one resource's text has in it that is rewritten."""

    known: Mapping[str, str]
    """As it stands → what it becomes."""
    searches: frozenset[str] = frozenset()
    """References that are searches."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """As it stands → the reference whose version is not known yet."""

    @property
    def are_known(self) -> bool:
        return not self.searches and not self.versions


class BundleLinks:
    """What the links of a transaction's resources become.

    ``targets``: each entry's fullUrl and the reference, ``Type/id``, that its resource has here. One that is its own
    address is left as it is written, and so is every version of it: those are this server's own.
    """

    def __init__(self, targets: Mapping[str, str], base_url: str) -> None:
        self._base = f"{base_url}/"
        self._targets = {
            url: reference
            for url, reference in targets.items()
            if url not in (reference, f"{self._base}{reference}")
        }

    def of(
        self,
        text: str,
        *,
        full_url: str | None,
        versions: Mapping[str, int],
        is_json_patch: bool = False,
    ) -> Links:
        """The links of the resource ``text``, whose entry calls itself ``full_url``.

        ``versions``: as far as they are known, by reference. A JSON Patch has no members called reference, so a search
        is told by its form alone. Raises BadRequest for a search of what is no type.
        """
        root = root_of(full_url)
        known: dict[str, str] = {}
        unversioned: dict[str, str] = {}
        for written in _strings(text) if self._targets else ():
            if (target := self._target(written, root)) is not None:
                known[written] = target
            elif (found := _VERSIONED.match(written)) and (target := self._target(found[1], root)):
                if target in versions:
                    known[written] = f"{target}/_history/{versions[target]}"
                else:
                    unversioned[written] = target
        return Links(known, self._searches(text, is_json_patch=is_json_patch), unversioned)

    def _target(self, written: str, root: str | None) -> str | None:
        return self._targets.get(written) or (self._targets.get(f"{root}/{written}") if root else None)

    def _searches(self, text: str, *, is_json_patch: bool) -> frozenset[str]:
        if "?" not in text and "\\u" not in text:
            return frozenset()
        if is_json_patch:
            return frozenset(
                one
                for one in _strings(text)
                if (found := _PATCHED_SEARCH.match(one)) and found[1] in RESOURCE_TYPES
            )
        references = {_unescaped(one) for one in _REFERENCE.findall(text)}
        searches = frozenset(one for one in references if _SEARCH.match(one.removeprefix(self._base)))
        for one in searches:
            if one.removeprefix(self._base).partition("?")[0] not in RESOURCE_TYPES:
                raise BadRequest("A conditional reference names an unknown resource type.")
        return searches

    def search_of(self, reference: str) -> tuple[str, str]:
        """Type and criteria of a reference that is a search."""
        resource_type, _, criteria = reference.removeprefix(self._base).partition("?")
        return resource_type, criteria


def _strings(text: str) -> Iterator[str]:
    """Every string of a JSON text, member names among them, and every link of a narrative."""
    for raw in set(_STRING.findall(text)):
        string = _unescaped(raw)
        yield string
        if "<" in string:
            for double, single in _NARRATIVE_LINK.findall(string):
                yield html.unescape(double or single)


def _unescaped(raw: str) -> str:
    return str(json.loads(f'"{raw}"')) if "\\" in raw else raw


def referring(texts: Sequence[str | None], names: frozenset[str]) -> Iterator[int]:
    """Places of the ``texts`` that have one of ``names`` as a link or any other string."""
    for place, text in enumerate(texts):
        if text is not None and any(one in names for one in _strings(text)):
            yield place
