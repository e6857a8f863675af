"""One record: as it is, as it was, and how it came to be."""

from __future__ import annotations

from datetime import datetime

from app.asked import Asked, Release
from app.disclosure.gate import Gate, Reading
from app.disclosure.histories import history_entry
from app.disclosure.links import next_link
from app.disclosure.recording import Recording
from app.errors import Gone, NotFound
from app.fhir import bundle
from app.fhir.history import HistoryWindow
from app.records import reading
from app.records.reading import Record


class Instances:
    """read, vread, history (R4 http, 3.1.0.1, 3.1.0.2, 3.1.0.10)."""

    def __init__(self, at: Reading, gate: Gate, recording: Recording) -> None:
        self._at = at
        self._gate = gate
        self._recording = recording

    async def read(
        self,
        asked: Asked,
        resource_type: str,
        id: str,
        *,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
    ) -> Release:
        found, decision = await self._gate.visible(asked, resource_type, id)
        record = found.record
        if record.deleted:
            raise Gone
        not_modified = _not_modified(record, if_none_match, if_modified_since)
        receipts = await self._recording.records(asked, [record], decision)
        text = "" if not_modified else await self._gate.as_released(asked, record, found.whose, decision)
        return Release(text, receipts, 304 if not_modified else 200, record.etag, record.last_updated)

    async def vread(self, asked: Asked, resource_type: str, id: str, version: str) -> Release:
        found, decision = await self._gate.visible(asked, resource_type, id)
        record = await self._version(found.record, version)
        if not await self._gate.releases(asked, record, found.whose, decision):
            raise NotFound
        if record.deleted:
            raise Gone
        receipts = await self._recording.records(asked, [record], decision)
        return Release(record.content, receipts, 200, record.etag, record.last_updated)

    async def history(
        self,
        asked: Asked,
        resource_type: str,
        id: str,
        window: HistoryWindow,
        *,
        count: int | None,
        before: int | None = None,
    ) -> Release:
        """``before`` is the last version of the page before: versions never change, so no page skips or repeats one."""
        found, decision = await self._gate.visible(asked, resource_type, id)
        every = [found.record, *await reading.versions(self._at.database, found.record)]
        told = [
            one
            for one, until in zip(every, [None, *(one.last_updated for one in every)], strict=False)
            if window.holds(one.last_updated, until)
            and await self._gate.releases(asked, one, found.whose, decision)
        ]
        left = [one for one in told if before is None or one.version < before]
        shown = left[:count]
        links = [("self", f"{asked.request.base_url}/{resource_type}/{id}/_history{window.query(count)}")]
        if shown and len(left) > len(shown):
            position = {"kind": "history", "type": resource_type, "id": id, "count": count}
            position |= {"before": shown[-1].version, **window.saved()}
            links.append(next_link(self._at.seal, asked, position))
        receipts = await self._recording.records(asked, shown, decision)
        entries = [history_entry(asked.request.base_url, one) for one in shown]
        return Release(bundle.history(entries, links=links, total=len(told)), receipts)

    async def _version(self, current: Record, version: str) -> Record:
        if str(current.version) == version:
            return current
        for one in await reading.versions(self._at.database, current):
            if str(one.version) == version:
                return one
        raise NotFound


def _not_modified(record: Record, if_none_match: str | None, since: datetime | None) -> bool:
    """RFC 9110, 13.2.2: the tag, where there is one, and else the date, which knows no fractions of a second."""
    if if_none_match is not None:
        return _matches(if_none_match, record.etag)
    return since is not None and record.last_updated.replace(microsecond=0) <= since


def _matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison (RFC 9110, 13.1.2)."""
    candidates = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return "*" in candidates or etag.removeprefix("W/") in candidates
