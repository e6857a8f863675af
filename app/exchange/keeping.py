"""The writes of a transaction, carried out in an open one: what each means, in what order, and how they refer.

Resources are read, checked and written a slice at a time, so that memory is bounded and others have their turn. Those
whose references are searches wait until the rest is kept: a search finds what the transaction itself brings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import asyncpg

from app.asked import Asked
from app.disclosure import Disclosure
from app.errors import (
    BadRequest,
    BusinessRule,
    CandourError,
    Gone,
    InsufficientScope,
    InvalidResource,
    NotFound,
    NotUnique,
    PreconditionFailed,
    UnprocessablePatch,
)
from app.exchange.conditional import updated_id
from app.exchange.criteria import criteria_of, lock, lock_key, the_one
from app.exchange.responses import kept_as
from app.exchange.steps import JSON_PATCH, Step, patch_of, refuse, refuse_overlaps, refuse_same_criteria
from app.exchange.turns import Turns
from app.fhir.bundle_links import BundleLinks, Links
from app.fhir.bundled import FHIR_JSON
from app.fhir.query import SearchQuery
from app.fhir.text import parse, replace_references
from app.records import store
from app.records.matching import matching_ids
from app.smart import scopes
from app.submission import Draft, Submission, Written

_SLICE: Final = 50
"""Resources in memory with all that is derived from them."""
_MOST_FAULTS: Final = 100
_ROUNDS: Final = 5
"""A search may find what itself waited for a search, so many times over."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A step whose links are not all known yet."""

    step: Step
    links: Links


@dataclass(frozen=True, slots=True)
class _Found:
    """What a conditional reference means, and one of the steps that use it."""

    reference: str
    step: Step


_FAULTS: Final = (BadRequest, InvalidResource, BusinessRule, UnprocessablePatch)
"""Of a resource's own text: all of them are told together."""


class Keeping:
    """One transaction's writes; what they left is in ``written``, and the answer to each in ``answers``.

    ``disclosure`` reads within the transaction: a patch and a conditional reference mean only what the caller may see.
    Without one, as in loading, every record of the organisation's own may be meant.
    """

    def __init__(
        self,
        submission: Submission,
        asked: Asked,
        connection: asyncpg.Connection,
        disclosure: Disclosure | None,
    ) -> None:
        self._submission = submission
        self._asked = asked
        self._connection = connection
        self._disclosure = disclosure
        self._turns = Turns()
        self._versions: dict[str, int] = {}
        self._resolutions: dict[str, _Found] = {}
        self.written: list[Written] = []
        self.answers: dict[int, str] = {}

    async def keep(self, steps: Sequence[Step]) -> None:
        """Carries out all of them. Raises what the first raised, or the faults of several resources as one."""
        refuse_overlaps(steps)
        steps = await self._matched(steps)
        refuse_overlaps([step for step in steps if step.criteria is not None or not step.existing])
        await store.lock(self._connection, [step.address for step in steps if step.method != "POST"])
        await self._delete([step for step in steps if step.method == "DELETE"])
        named = [step for step in steps if step.full_url and step.method != "DELETE"]
        links = BundleLinks({str(step.full_url): step.reference for step in named}, self._base)
        self._versions |= {step.reference: 1 for step in steps if step.method == "POST" and not step.existing}
        # Creations first, then changes (R4 http, 3.1.0.11.2); bytes when what stands for them is there.
        to_write = sorted(
            (step for step in steps if step.is_written),
            key=lambda step: (step.resource_type == "Binary", step.method != "POST"),
        )
        waiting = await self._write(to_write, links)
        await self._write_the_rest(waiting, links)

    @property
    def _base(self) -> str:
        return self._asked.request.base_url

    # What each means.

    async def _matched(self, steps: Sequence[Step]) -> list[Step]:
        """Each with the id of the one resource that it means.

        A conditional create that finds its resource here writes nothing, a deletion that finds none does nothing.
        """
        queries = self._queries(steps)
        await lock(self._connection, queries.values())
        matched = []
        for step in steps:
            if step.place in queries:
                with step.named:
                    step = await self._means(step, queries[step.place])
            matched.append(step)
        return matched

    def _queries(self, steps: Sequence[Step]) -> dict[int, SearchQuery]:
        queries: dict[int, SearchQuery] = {}
        for step in steps:
            if step.criteria is not None and not step.existing:
                with step.named:
                    queries[step.place] = criteria_of(step.resource_type, step.criteria, self._base)
        refuse_same_criteria([(lock_key(query), place) for place, query in queries.items()])
        return queries

    async def _means(self, step: Step, query: SearchQuery) -> Step:
        found = await the_one(self._connection, self._asked, query)
        match step.method:
            case "PUT":
                id = await updated_id(
                    self._submission, self._connection, self._asked, step.resource_type, step.given_id, found
                )
                return replace(step, id=id)
            case "PATCH" if found is None:
                raise NotFound
            case "POST" if found is not None:
                await self._leave(step, found)
                return replace(step, id=found, existing=True)
            case "DELETE" if found is None:
                self.answers[step.place] = kept_as(self._asked, step, None)
        return replace(step, id=found) if found else step

    async def _leave(self, step: Step, id: str) -> None:
        there = await self._submission.about(self._connection, self._asked, step.resource_type, id)
        self._versions[there.reference] = there.version
        self.answers[step.place] = kept_as(self._asked, step, there)

    # Carrying out.

    async def _delete(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.place not in self.answers:
                with step.named:
                    removed = await self._submission.remove(
                        self._connection, self._asked, *step.address, if_match=step.if_match
                    )
                self._done(step, removed)

    async def _write(self, steps: Sequence[Step], links: BundleLinks) -> list[_Waiting]:
        """Writes what refers to nothing unknown; gives the rest. After a fault the others are only checked."""
        waiting: list[_Waiting] = []
        faults: list[CandourError] = []
        for some in _slices(steps):
            drafts: list[tuple[Step, Draft]] = []
            for step in some:
                await self._turns.given()
                try:
                    found = self._links(step, links)
                    known = self._known(found)
                    if known is None:
                        waiting.append(_Waiting(step, found))
                        continue
                    draft = await self._draft(step, known)
                    if draft.context and any(one.step.reference == draft.context for one in waiting):
                        waiting.append(_Waiting(step, found))
                    else:
                        drafts.append((step, draft))
                except _FAULTS as fault:
                    fault.at_entry(step.place)
                    faults.append(fault)
            if len(faults) > _MOST_FAULTS:
                break
            if not faults:
                await self._keep(drafts)
        refuse(faults)
        return waiting

    async def _draft(self, step: Step, known: Mapping[str, str]) -> Draft:
        text = await self._patched(step) if step.method == "PATCH" else str(step.text)
        parsed = parse(replace_references(text, known))
        if step.method == "PUT" and parsed.value.get("id", step.id) != step.id:
            raise BadRequest("The body's id is not that of the address.", expression="Resource.id")
        return self._submission.draft_parsed(
            self._asked, step.resource_type, step.id, parsed, entry=step.place
        )

    async def _patched(self, step: Step) -> str:
        """By who may read the record as well as change it: a patch tests, and shows, what is kept."""
        if self._disclosure is None:
            raise NotFound
        apply = patch_of(JSON_PATCH if step.is_json_patch else FHIR_JSON, str(step.text))
        with step.named:
            seen = await self._disclosure.seen(replace(self._asked), *step.address)
            return await self._submission.patched(
                self._connection, self._asked, *step.address, apply, seen=seen, if_match=step.if_match
            )

    async def _keep(self, drafts: Sequence[tuple[Step, Draft]]) -> None:
        """The first versions together, the later ones one by one."""
        beside = [draft for _, draft in drafts]
        drafts = [
            (step, await self._submission.settled(self._connection, draft, beside)) for step, draft in drafts
        ]
        changed = [step.address for step, _ in drafts if step.method != "POST"]
        before = await store.current_of(self._connection, changed) if changed else {}
        new = [(step, draft) for step, draft in drafts if step.address not in before]
        for step, _ in new:
            if step.if_match is not None:
                with step.named:
                    raise PreconditionFailed
        if new:
            kept = await self._submission.keep_new(self._connection, self._asked, [draft for _, draft in new])
            for (step, _), written in zip(new, kept, strict=True):
                self._done(step, written)
        for step, draft in drafts:
            if step.address in before:
                with step.named:
                    written = await self._submission.keep_next(
                        self._connection,
                        self._asked,
                        draft,
                        before[step.address],
                        if_match=step.if_match,
                        if_none_match=step.if_none_match,
                    )
                self._done(step, written)

    def _done(self, step: Step, written: Written | None) -> None:
        self.answers[step.place] = kept_as(self._asked, step, written)
        if written is not None:
            self._versions[step.reference] = written.version
            # Its text is in the answer, if anywhere: for the audit entry it need not be kept.
            self.written.append(replace(written, content=None))

    # How they refer.

    def _links(self, step: Step, links: BundleLinks) -> Links:
        return links.of(
            str(step.text),
            full_url=step.full_url,
            versions=self._versions,
            is_json_patch=step.is_json_patch,
        )

    def _known(self, found: Links) -> Mapping[str, str] | None:
        """What all of its links become; None as long as one of them is not known."""
        if found.versions or any(one not in self._resolutions for one in found.searches):
            return None
        return {**found.known, **{one: self._resolutions[one].reference for one in found.searches}}

    async def _write_the_rest(self, waiting: Sequence[_Waiting], links: BundleLinks) -> None:
        for _ in range(_ROUNDS):
            if not waiting:
                break
            await self._search(waiting, links)
            left = await self._write([one.step for one in waiting], links)
            if len(left) == len(waiting):
                break
            waiting = left
        if waiting:
            self._refuse_unfound(waiting)
            await self._expect([one.step for one in waiting])
            await self._write([one.step for one in waiting], links)
        await self._search_again(links)

    async def _search(self, waiting: Sequence[_Waiting], links: BundleLinks) -> None:
        for one in waiting:
            for reference in sorted(one.links.searches):
                if reference not in self._resolutions:
                    await self._turns.given()
                    with one.step.named:
                        found = await self._resolved(reference, links)
                    if found is not None:
                        self._resolutions[reference] = _Found(found, one.step)

    async def _resolved(self, reference: str, links: BundleLinks) -> str | None:
        """The one resource that a reference means, of those that the caller may see. Raises NotUnique."""
        resource_type, criteria = links.search_of(reference)
        if not scopes.permits(self._asked.caller.scopes, resource_type, "s"):
            raise InsufficientScope(scopes.suffices(resource_type, "s"))
        query = criteria_of(resource_type, criteria, self._base)
        ids = await matching_ids(self._connection, query, self._asked.caller.organisation)
        seen = [id for id in ids if await self._may_see(resource_type, id)]
        if len(seen) > 1:
            raise NotUnique(f"A conditional reference to {resource_type} matches several resources here.")
        return f"{resource_type}/{seen[0]}" if seen else None

    async def _may_see(self, resource_type: str, id: str) -> bool:
        if self._disclosure is None:
            return True
        try:
            await self._disclosure.seen(replace(self._asked), resource_type, id)
        except (NotFound, Gone):
            return False
        return True

    def _refuse_unfound(self, waiting: Sequence[_Waiting]) -> None:
        for one in waiting:
            for reference in sorted(one.links.searches):
                if reference not in self._resolutions:
                    resource_type = reference.removeprefix(f"{self._base}/").partition("?")[0]
                    with one.step.named:
                        raise NotUnique(f"A conditional reference to {resource_type} matches nothing here.")

    async def _expect(self, steps: Sequence[Step]) -> None:
        """Resources that name each other's versions get those that they are about to have."""
        before = await store.current_of(self._connection, [step.address for step in steps])
        for step in steps:
            kept = before.get(step.address)
            self._versions.setdefault(step.reference, kept.version + 1 if kept else 1)

    async def _search_again(self, links: BundleLinks) -> None:
        """What a search finds must be the one that matches after the whole transaction as well."""
        written = {one.reference.partition("/")[0] for one in self.written}
        for reference, found in self._resolutions.items():
            if found.reference.partition("/")[0] in written:
                await self._turns.given()
                with found.step.named:
                    if await self._resolved(reference, links) != found.reference:
                        raise NotUnique("A conditional reference matches nothing in the end.")


def _slices(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    for start in range(0, len(steps), _SLICE):
        yield steps[start : start + _SLICE]
