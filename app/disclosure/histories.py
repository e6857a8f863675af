"""The history of a type, and of everything kept here (R4 http, 3.1.0.10).

Each version is decided under its own person's directives, and so is the one that is current: the stricter of both
counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.asked import Asked, Release
from app.disclosure.finding import MOST_CANDIDATES, Permitted, named
from app.disclosure.gate import Gate, Reading
from app.disclosure.links import next_link
from app.disclosure.recording import Recording
from app.errors import InsufficientScope, TooCostly, UnsupportedSearch
from app.fhir import bundle
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.history import HistoryWindow
from app.fhir.instants import instant
from app.fhir.query import KEPT_APART
from app.records import reading, versions
from app.records.reading import Record
from app.records.versions import Made, Place, Walk
from app.smart import scopes

_AT_ONCE = 200
"""Versions that are read and decided in one go."""


class Histories:
    """history-type and history-system."""

    def __init__(self, at: Reading, gate: Gate, recording: Recording) -> None:
        self._at = at
        self._gate = gate
        self._recording = recording

    async def of_types(
        self,
        asked: Asked,
        resource_type: str | None,
        window: HistoryWindow,
        *,
        count: int,
        after: Place | None = None,
    ) -> Release:
        """A page of what may be released; ``after``: the last version of the page before. None: of every type.

        Versions never change, so that no page leaves out or repeats one, whatever is written meanwhile.
        """
        types = self._types(asked, resource_type)
        await self._gate.known(asked)
        asked_for = Walk(types, window.since_instant, window.before_instant, after)
        found = await self._page(asked, asked_for, window, count + 1)
        shown = found[:count]
        address = f"{asked.request.base_url}/{f'{resource_type}/' if resource_type else ''}_history"
        links = [("self", f"{address}{window.query(count)}")]
        if len(found) > count:
            position: dict[str, Any] = {
                "kind": "histories",
                "type": resource_type,
                "count": count,
                **window.saved(),
            }
            position |= {"after": versions.saved(_place(shown[-1].record))}
            links.append(next_link(self._at.seal, asked, position))
        receipts = await self._recording.matches(asked, [named(asked, one) for one in shown])
        entries = [history_entry(asked.request.base_url, one.record) for one in shown]
        # How many there are is known without counting them only where they are all here.
        total = len(shown) if after is None and len(found) <= count else None
        return Release(bundle.history(entries, links=links, total=total), receipts)

    def _types(self, asked: Asked, resource_type: str | None) -> tuple[str, ...]:
        """Those that the caller's scopes reach. Raises InsufficientScope."""
        if resource_type in KEPT_APART:
            raise UnsupportedSearch("An AuditEvent never changes: AuditEvent is searched by patient.")
        if resource_type is not None:
            self._gate.may(asked, resource_type, "s")
            return (resource_type,)
        every = RESOURCE_TYPES - KEPT_APART
        types = tuple(one for one in sorted(every) if scopes.permits(asked.caller.scopes, one, "s"))
        if not types:
            raise InsufficientScope(scopes.suffices("*", "s"))
        return types

    async def _page(
        self, asked: Asked, asked_for: Walk, window: HistoryWindow, wanted: int
    ) -> list[Permitted]:
        """The first ``wanted`` that may be released. Raises TooCostly after MOST_CANDIDATES."""
        shown: list[Permitted] = []
        for _ in range(0, MOST_CANDIDATES, _AT_ONCE):
            batch = await versions.walk(self._at.database, asked_for, _AT_ONCE)
            held = [one for one in batch if window.holds(one.made, one.until) and self._reached(asked, one)]
            shown += await self._permitted(asked, held)
            if len(shown) >= wanted or len(batch) < _AT_ONCE:
                return shown[:wanted]
            asked_for = replace(asked_for, after=batch[-1].place)
        raise TooCostly("Too many versions would have to be looked at. Narrow the history by _since or _at.")

    def _reached(self, asked: Asked, one: Made) -> bool:
        return self._gate.scoped(asked, one.pointer.resource_type, one.custodian)

    async def _permitted(self, asked: Asked, batch: Sequence[Made]) -> list[Permitted]:
        found = await reading.pointed(self._at.database, [one.pointer for one in batch])
        both = [(one[0], one[-1]) for one in found if one]
        owners = await reading.whose(self._at.database, list({version.patient_key for _, version in both}))
        permitted = []
        for current, version in both:
            owner = owners.get(version.patient_key)
            decision = await self._gate.decide_quietly(asked, owner)
            if (
                decision is not None
                and await self._gate.releases(asked, current, owner, decision)
                and await self._gate.releases(asked, version, owner, decision)
            ):
                permitted.append(Permitted(version, owner, decision))
        return permitted


def _place(record: Record) -> Place:
    return Place(record.last_updated, record.resource_type, record.id)


def history_entry(base: str, record: Record) -> bundle.Entry:
    """How a version came to be, and its text."""
    url = f"{record.resource_type}/{record.id}"
    method = "DELETE" if record.deleted else ("POST" if record.version == 1 else "PUT")
    return bundle.Entry(
        full_url=f"{base}/{url}",
        content=None if record.deleted else record.content,
        method=method,
        url=record.resource_type if method == "POST" else url,
        status={"DELETE": "204", "POST": "201", "PUT": "200"}[method],
        etag=record.etag,
        last_modified=instant(record.last_updated),
    )
