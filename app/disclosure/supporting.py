"""What a record needs to be understood: the practitioners, organisations, locations and medications it refers to.

"The server also returns whatever resources are needed to support the records" (R4 patient-operation-everything). Each
reference is read as a single record is, so that one to what is withheld brings as little as one to nothing. Nobody
else's record is ever brought along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

from app.asked import Asked
from app.disclosure.finding import Finding, Permitted, Within
from app.errors import Issue
from app.fhir.compartments import in_patient_compartment
from app.fhir.references import references_in

MOST_LOOKED_UP = 1_000
"""References that are followed; an answer that has more says so."""

TOO_MANY = Issue(
    "warning",
    "incomplete",
    f"More than {MOST_LOOKED_UP} resources are referred to; not all of them could be added.",
)
_AT_ONCE = 100

Target = tuple[str, str]
"""Type and id."""


class Supporting:
    """Follows references out of what will be released."""

    def __init__(self, finding: Finding) -> None:
        self._finding = finding

    async def of(
        self, asked: Asked, released: Sequence[Permitted], within: Within, *, any_type: bool = False
    ) -> tuple[list[Permitted], list[Issue]]:
        """What ``released`` refers to, directly or by others that are found, and what there is to say about it.

        Outside every patient's compartment; ``any_type``: what is referred to directly may be in this person's, too.
        Neither ``released`` nor what is given need have its content.
        """
        wanted: dict[Target, None] = {}
        for start in range(0, len(released), _AT_ONCE):
            slice = await self._finding.contents(released[start : start + _AT_ONCE])
            wanted |= _targets(slice, asked.request.base_url, any_type=any_type)
        seen = {(one.record.resource_type, one.record.id) for one in released}
        every: list[Permitted] = []
        while missing := [one for one in wanted if one not in seen]:
            room = MOST_LOOKED_UP - (len(seen) - len(released))
            found = await self._read(asked, missing[:room], within)
            every += found
            if len(missing) > room:
                return every, [TOO_MANY]
            seen.update(missing)
            wanted = _targets(found, asked.request.base_url)
        return every, []

    async def _read(self, asked: Asked, targets: Collection[Target], within: Within) -> list[Permitted]:
        read = await asyncio.gather(*(self._finding.single(asked, kind, id) for kind, id in targets))
        return [one for one in read if one is not None and _is_nobody_elses(one, within)]


def _is_nobody_elses(one: Permitted, within: Within) -> bool:
    about = within.identity.person if within.identity else None
    return one.owner is None or one.owner.person == about


def _targets(found: Iterable[Permitted], base_url: str, *, any_type: bool = False) -> dict[Target, None]:
    return {
        (one.type, one.id): None
        for permitted in found
        for one in references_in(permitted.record.content, base_url)
        if one.where == "here" and one.type and (any_type or not in_patient_compartment(one.type))
    }
