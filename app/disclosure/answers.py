"""What a search answers: a page of a frozen answer, with what is included and how to go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.asked import Asked, Release
from app.audit.entry import Outcome
from app.consent.decision import Decision
from app.disclosure.finding import MOST_CANDIDATES, Finding, Permitted, Within, named, question_of
from app.disclosure.gate import Gate, Reading
from app.disclosure.inclusion import Inclusion
from app.disclosure.links import next_link
from app.disclosure.lookups import Lookups
from app.disclosure.matches import Match
from app.disclosure.recording import Recording
from app.errors import Issue, TooCostly
from app.fhir import bundle, manifest
from app.fhir.manifest import SourceLine
from app.fhir.query import SearchQuery
from app.records.reading import Pointer
from app.records.results import Foreign, Kept, ResultSet

_AT_ONCE = 200
"""Kept places that are read and decided in one go."""

_IN_A_PIECE = 100
"""Resources that are read at once while an answer is sent."""

Chosen = Permitted | Foreign


@dataclass(frozen=True, slots=True)
class Answering:
    """A search under way: what was asked, of whom, and what the sources said."""

    asked: Asked
    query: SearchQuery | None
    """None: everything of one person."""
    count: int
    within: Within
    lines: Sequence[SourceLine] = ()
    address: str = ""
    """Of a later page: the ``self`` link of the first."""
    supports: frozenset[Kept] = frozenset()
    """What is no match: it is in the answer because matches refer to it."""
    issues: Sequence[Issue] = ()

    @property
    def self_link(self) -> str:
        if self.address:
            return self.address
        base = self.asked.request.base_url
        if self.query is not None:
            return self.query.self_link(base)
        return base + self.asked.request.target.removeprefix("/fhir")

    def told(self, total: int | None) -> int | None:
        """``_total=none`` asks for no total; one that leaves out a source would be wrong."""
        unwanted = self.query is not None and self.query.total == "none"
        return None if unwanted or not manifest.is_complete(self.lines) else total


@dataclass(frozen=True, slots=True)
class _Page:
    """What is shown, and the place in the answer where the next page begins, if ``more`` follows."""

    shown: list[Chosen]
    answer: ResultSet
    at: int
    more: bool


class Answers:
    """Turns what was found into what leaves."""

    def __init__(
        self,
        at: Reading,
        gate: Gate,
        finding: Finding,
        lookups: Lookups,
        inclusion: Inclusion,
        recording: Recording,
    ) -> None:
        self._at = at
        self._gate = gate
        self._finding = finding
        self._lookups = lookups
        self._inclusion = inclusion
        self._recording = recording

    async def whole(self, one: Answering, chosen: Sequence[Chosen], total: int | None) -> Release:
        """All of the answer on one page; ``_count=0`` asks for its total alone."""
        return await self._release(one, chosen[: one.count], one.told(total), [])

    async def empty(self, one: Answering, words: str, decision: Decision | None) -> Release:
        """Nothing at all, and what is recorded of it."""
        links = [("self", one.self_link)]
        text = bundle.searchset([], links=links, total=one.told(0), outcome=_outcome(one, ()))
        outcome: Outcome = "4" if decision else "0"
        receipts = await self._recording.told(one.asked, words, decision, outcome=outcome)
        return Release(text, receipts)

    async def first(self, one: Answering, answer: ResultSet, chosen: Sequence[Chosen] | None) -> Release:
        """The first page of ``answer``, which is frozen when there is another. ``chosen``: its records, if at hand."""
        if chosen is not None and (len(chosen) <= one.count or one.count == 0):
            return await self.whole(one, chosen, answer.total)
        if chosen is not None:
            page = _Page(
                list(chosen[: one.count]), answer, _place_after(answer.kept, chosen[one.count - 1]), True
            )
        else:
            page = await self._page(one, answer, 0)
        links = [await self._frozen(one, page)] if page.more else []
        return await self._release(one, page.shown, one.told(answer.total), links)

    async def later(self, one: Answering, answer: ResultSet, position: Mapping[str, Any]) -> Release:
        """A later page: read back, decided again."""
        page = await self._page(one, answer, position["at"])
        links = []
        if page.more and page.answer is answer:
            links = [next_link(self._at.seal, one.asked, {**position, "at": page.at})]
        elif page.more:
            links = [await self._frozen(one, page)]
        return await self._release(one, page.shown, one.told(answer.total), links)

    async def streamed(self, one: Answering, chosen: Sequence[Chosen], total: int | None) -> Release:
        """All of the answer on one page, whose contents are read while it is sent.

        Decided already, and recorded now, by version: a version never changes, so that what is read is what was
        decided. Where one cannot be read any more the answer breaks off, which nobody takes for a whole one.
        """
        within, asked = one.within, one.asked
        matches = [_named(one, it) for it in chosen]
        receipts = await self._recording.matches(asked, matches, within.decision, one.lines)
        return Release("", receipts, pieces=lambda: self._pieces(one, chosen, one.told(total)))

    async def _pieces(
        self, one: Answering, chosen: Sequence[Chosen], total: int | None
    ) -> AsyncIterator[str]:
        yield bundle.opening("searchset", links=[("self", one.self_link)], total=total)
        separator = ',"entry":['
        for start in range(0, len(chosen), _IN_A_PIECE):
            entries = await self._entries(one, chosen[start : start + _IN_A_PIECE])
            yield separator + ",".join(entries)
            separator = ","
        if (outcome := _outcome(one, ())) is not None:
            yield separator + bundle.outcome_entry(outcome)
            separator = ","
        yield "]}" if separator == "," else "}"

    async def _entries(self, one: Answering, chosen: Sequence[Chosen]) -> list[str]:
        own = [it for it in chosen if isinstance(it, Permitted)]
        read = iter(await self._finding.contents(own))
        whole = [next(read) if isinstance(it, Permitted) else it for it in chosen]
        return [bundle.found_entry((await self._match(one, it)).entry(None)) for it in whole]

    async def _frozen(self, one: Answering, page: _Page) -> tuple[str, str]:
        """The link to what follows ``page``."""
        identity = one.within.identity
        kept = ResultSet(page.answer.kept, page.answer.total, tuple(one.lines), page.answer.beyond)
        position = await self._at.result_sets.freeze(identity.person if identity else None, kept)
        position |= {
            "kind": "frozen",
            "at": page.at,
            "patient": identity.asked.id if identity else None,
            "count": one.count,
            "query": one.query.saved() if one.query else None,
            "matches": len(kept.kept) - sum(it in one.supports for it in kept.kept),
            "self": one.self_link,
        }
        return next_link(self._at.seal, one.asked, position)

    async def _page(self, one: Answering, answer: ResultSet, start: int) -> _Page:
        """From place ``start`` on as much as a page holds, and whether anything follows that may be released.

        Raises TooCostly when that would mean to look at more than MOST_CANDIDATES.
        """
        shown: list[Chosen] = []
        after, at, seen = (answer, start), start, 0
        while True:
            if at >= len(answer.kept):
                if answer.beyond is None:
                    return _Page(shown, *after, False)
                answer, at = await self._onward(one, answer), 0
            for found in await self._decided(one, answer.kept[at : at + max(_AT_ONCE, one.count + 1)]):
                at, seen = at + 1, seen + 1
                if found is None:
                    continue
                if len(shown) == one.count:
                    return _Page(shown, *after, True)
                shown.append(found)
                after = answer, at
            if seen > MOST_CANDIDATES:
                raise TooCostly

    async def _onward(self, one: Answering, answer: ResultSet) -> ResultSet:
        """What follows an answer that was too long to be kept whole."""
        if one.query is None:
            raise TooCostly  # everything of one person is gathered whole or not at all
        kind = one.query.resource_type
        criteria = await self._lookups.resolved(one.asked, kind, one.query.criteria, one.within)
        question = question_of(
            one.asked,
            kind,
            criteria,
            one.within,
            limit=MOST_CANDIDATES,
            sort=one.query.sort,
            after=answer.beyond,
        )
        pointers = await self._finding.point(question)
        return ResultSet(pointers.found, answer.total, answer.lines, pointers.beyond)

    async def _decided(self, one: Answering, batch: Sequence[Kept]) -> list[Chosen | None]:
        pointers = [kept for kept in batch if isinstance(kept, Pointer)]
        found = await self._finding.pointed(one.asked, pointers, one.within) if pointers else {}
        return [
            self._own(one, found.get(kept)) if isinstance(kept, Pointer) else self._foreign(one, kept)
            for kept in batch
        ]

    def _own(self, one: Answering, found: Permitted | None) -> Permitted | None:
        if found is None or not self._gate.scoped(
            one.asked, found.record.resource_type, found.record.custodian
        ):
            return None
        return found

    def _foreign(self, one: Answering, kept: Foreign) -> Foreign | None:
        decision = one.within.decision
        scoped = self._gate.scoped(one.asked, kept.resource_type, kept.custodian)
        return kept if scoped and decision is not None and decision.releases(kept.facets()) else None

    async def _release(
        self,
        one: Answering,
        shown: Sequence[Chosen],
        total: int | None,
        links: Sequence[tuple[str, str]],
    ) -> Release:
        matches = [await self._match(one, chosen) for chosen in shown]
        includes = one.query.includes if one.query else ()
        included, issues = await self._inclusion.of(one.asked, includes, matches, one.within)
        subset = one.query.subset if one.query else None
        entries = [*(it.entry(subset) for it in matches), *(it.entry(None) for it in included)]
        text = bundle.searchset(
            entries,
            links=[("self", one.self_link), *links],
            total=total,
            outcome=_outcome(one, issues),
        )
        receipts = await self._recording.matches(
            one.asked, [*matches, *included], one.within.decision, one.lines
        )
        return Release(text, receipts)

    async def _match(self, one: Answering, chosen: Chosen) -> Match:
        match = _named(one, chosen)
        if isinstance(chosen, Permitted):
            return await self._finding.match(one.asked, chosen, mode=match.mode)
        return replace(match, content=chosen.content)


def _named(one: Answering, chosen: Chosen) -> Match:
    """Without its content: as it is recorded."""
    mode = "include" if kept_of(chosen) in one.supports else "match"
    if isinstance(chosen, Permitted):
        return named(one.asked, chosen, mode)
    return Match(
        chosen.resource_type,
        chosen.id,
        chosen.full_url,
        "",
        chosen.disclosed,
        one.within.identity,
        one.within.decision,
        mode=mode,
    )


def _outcome(one: Answering, more: Sequence[Issue]) -> str | None:
    ignored = one.query.ignored if one.query else ()
    more = [*one.issues, *more]
    issues = [Issue("warning", "not-supported", f"{it.name} was ignored: {it.reason}") for it in ignored]
    return manifest.outcome(one.lines, [*issues, *more]) if one.lines or issues or more else None


def kept_of(chosen: Chosen) -> Kept:
    return chosen.record.pointer if isinstance(chosen, Permitted) else chosen


def _place_after(kept: Sequence[Kept], last: Chosen) -> int:
    return kept.index(kept_of(last)) + 1
