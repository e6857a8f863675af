"""Exports: begun, asked about, downloaded, removed (HL7 FHIR Bulk Data Access 2.0.0).

A job keeps no content. What a file holds is read and decided again while it is downloaded, a slice at a time, and each
slice leaves after its entries are durable: a consent that was withdrawn closes the rest of the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from app.asked import Asked, Release
from app.audit.entry import Receipt
from app.disclosure.finding import EVERYBODY, Finding, Permitted, body_of
from app.disclosure.gate import Gate, Reading
from app.disclosure.links import binding
from app.disclosure.lookups import Lookups
from app.disclosure.making import Making, Plan, saved_caller
from app.disclosure.matches import Match
from app.disclosure.recording import SERVED, Recording
from app.errors import (
    CandourError,
    ExportFailed,
    InsufficientScope,
    InvalidInput,
    NotFound,
    NotPermitted,
    TooCostly,
)
from app.fhir import export
from app.fhir.export import ExportQuestion, File
from app.fhir.subset import Subset
from app.records import reading
from app.records.exports import ExportFile, Job, NewJob
from app.records.reading import Pointer, Record
from app.smart import scopes
from app.vocabulary import PatientKey

_AT_ONCE = 250
"""Resources that are read, decided and recorded before they leave together."""
_FIRST_LOOK = 20
_NOTES = "notes"
_LONGEST_PAUSE = 30
"""Seconds between two questions for a job's status, at most."""


@dataclass(frozen=True, slots=True)
class Status:
    """How an export stands. ``retry_after``: seconds until it is worth asking again; None: it is complete."""

    release: Release
    retry_after: int | None = None
    expires: datetime | None = None


class Exporting:
    """The use cases of an export."""

    def __init__(
        self, at: Reading, gate: Gate, finding: Finding, lookups: Lookups, recording: Recording
    ) -> None:
        self._at = at
        self._gate = gate
        self._finding = finding
        self._recording = recording
        self.making = Making(at, gate, finding, lookups)

    # Beginning.

    async def begin(self, asked: Asked, question: ExportQuestion, *, group_id: str | None = None) -> Release:
        """Keeps the job; ``location`` is where to ask for its status.

        Raises InsufficientScope, NotPermitted, NotFound for a Group that may not be known, InvalidInput for a patient
        that may not, TooManyExports.
        """
        await self._gate.known(asked)
        if asked.caller.purpose.is_emergency:
            raise NotPermitted(
                "Emergency access is for one person, whose record is read; it exports nothing."
            )
        types = self._types(asked, question)
        group = None if group_id is None else await self._visible(asked, "Group", group_id)
        members = None if group is None else _members(group.record, asked.request.base_url)
        named = await self._named(asked, question, members)
        patients = await self._patients(question, members)
        job_id = await self._at.exports.begin(
            NewJob(
                asked.caller.client_id, _bound(asked), _saved(asked, question, types), patients, self._now()
            )
        )
        try:
            receipts = await self._begun(asked, [*([group] if group else []), *named])
        except CandourError:
            await self._at.exports.remove(job_id, _bound(asked))
            raise
        self.making.look()
        return Release("", receipts, 202, location=f"{_links(asked)}/_export/{job_id}")

    def _types(self, asked: Asked, question: ExportQuestion) -> tuple[str, ...]:
        """Those that are named must all be permitted; of those that are not, what is permitted is exported."""
        for resource_type in question.types or ():
            self._may(asked, resource_type)
        held = asked.caller.scopes
        types = question.types or tuple(
            one
            for one in sorted(export.exportable(question.level))
            if all(scopes.permits(held, one, letter) for letter in "rs")
        )
        if not types:
            raise InsufficientScope(scopes.suffices("*", "s"))
        for kind, _ in question.filters:
            self._may(asked, kind)
            for query in question.queries(kind, asked.request.base_url):
                for looked_at in sorted(query.types_looked_at):
                    self._gate.may(asked, looked_at, "s")
        return types

    def _may(self, asked: Asked, resource_type: str) -> None:
        for letter in "rs":
            self._gate.may(asked, resource_type, letter)

    async def _named(
        self, asked: Asked, question: ExportQuestion, members: Sequence[str] | None
    ) -> list[Permitted]:
        """The Patients asked for by name. One that is withheld is not known here, like one that never was."""
        found = []
        for id in question.patients:
            try:
                if members is not None and id not in members:
                    raise NotFound
                found.append(await self._visible(asked, "Patient", id))
            except NotFound as error:
                raise InvalidInput("patient", "one that was asked for is not known here.") from error
        return found

    async def _visible(self, asked: Asked, resource_type: str, id: str) -> Permitted:
        found, decision = await self._gate.visible(asked, resource_type, id)
        if found.record.deleted:
            raise NotFound
        asked.whose = None
        return Permitted(found.record, found.whose, decision)

    async def _patients(
        self, question: ExportQuestion, members: Sequence[str] | None
    ) -> tuple[PatientKey, ...] | None:
        if question.patients:
            return await self._at.exports.patients_of(question.patients)
        return None if members is None else await self._at.exports.patients_of(members)

    async def _begun(self, asked: Asked, known: Sequence[Permitted]) -> Sequence[Receipt]:
        """The caller has learnt that these are here: each person's log says so."""
        if not known:
            return await self._recording.told(asked, "An export was begun.", None)
        return await self._recording.matches(asked, [await self._finding.match(asked, one) for one in known])

    def _now(self) -> datetime:
        now = self._at.clock.now()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    # Asking about it.

    async def status(self, asked: Asked, job_id: str) -> Status:
        """Raises NotFound for a job that is not the caller's own, ExportFailed or TooCostly for one that failed."""
        job = await self._job(asked, job_id)
        for resource_type in Plan.of(job).types:
            self._may(asked, resource_type)
        if job.state == "making":
            receipts = await self._recording.told(asked, "The export is being made.", None)
            return Status(Release("", receipts, 202), retry_after=self._pause(job))
        _raise_failure(job)
        text = await self._manifest(asked, job)
        receipts = await self._recording.told(asked, SERVED, None)
        return Status(Release(text, receipts), expires=job.expires_at)

    def _pause(self, job: Job) -> int:
        """By the time it has taken so far, which tells nothing of what was found."""
        seconds = (self._at.clock.now() - job.created_at).total_seconds()
        return max(1, min(int(seconds / 2), _LONGEST_PAUSE))

    async def _manifest(self, asked: Asked, job: Job) -> str:
        """Of the files only those that hold something which may be released now."""
        address = f"{_links(asked)}/_export/{job.id}"
        output: list[File] = []
        deleted: list[File] = []
        for file in await self._at.exports.files(job.id):
            if await self._holds_anything(asked, job, file):
                url = f"{address}/{file.id}"
                kind = "Bundle" if file.deleted else file.resource_type
                (deleted if file.deleted else output).append(File(kind, url))
        notes = job.asked["question"]["notes"]
        return export.export_manifest(
            at=job.transaction_time,
            request=job.asked["request"],
            output=output,
            deleted=deleted,
            error=[File("OperationOutcome", f"{address}/{_NOTES}")] if notes else [],
        )

    async def _holds_anything(self, asked: Asked, job: Job, file: ExportFile) -> bool:
        after, limit = None, _FIRST_LOOK
        while pointers := await self._at.exports.pointers(job.id, file, after=after, limit=limit):
            if await self._permitted(asked, file, pointers):
                return True
            after, limit = pointers[-1], _AT_ONCE
        return False

    async def _job(self, asked: Asked, job_id: str) -> Job:
        await self._gate.known(asked)
        job = await self._at.exports.find(_uuid(job_id), _bound(asked))
        if job is None:
            raise NotFound("There is no such export.")
        return job

    async def remove(self, asked: Asked, job_id: str) -> Release:
        """Ends the making of it, and takes it away. Raises NotFound for a job that is not the caller's own."""
        await self._gate.known(asked)
        if not await self._at.exports.remove(_uuid(job_id), _bound(asked)):
            raise NotFound("There is no such export.")
        return Release("", await self._recording.told(asked, "The export was removed.", None), 202)

    # Downloading.

    async def download(self, asked: Asked, job_id: str, file_id: str) -> AsyncIterator[Release]:
        """A file, slice by slice: each is recorded before it is given. There is at least one, which may be empty.

        Raises NotFound and InsufficientScope before the first, and whatever happens meanwhile: then the file is not
        whole.
        """
        job = await self._job(asked, job_id)
        if job.state != "made":
            raise NotFound("There is no such file.")
        if file_id == _NOTES and job.asked["question"]["notes"]:
            receipts = await self._recording.told(asked, SERVED, None)
            yield Release(export.noted(job.asked["question"]["notes"]), receipts)
            return
        file = await self._at.exports.file(job.id, _uuid(file_id))
        if file is None:
            raise NotFound("There is no such file.")
        self._may(asked, file.resource_type)
        async for slice in self._slices(asked, job, file):
            yield slice
        if not asked.recorded:
            yield Release("", await self._recording.told(asked, "Nothing of it is left.", None))

    async def _slices(self, asked: Asked, job: Job, file: ExportFile) -> AsyncIterator[Release]:
        subset = ExportQuestion.restore(job.asked["question"]).subset
        after = None
        while pointers := await self._at.exports.pointers(job.id, file, after=after, limit=_AT_ONCE):
            permitted = await self._permitted(asked, file, pointers)
            if permitted:
                matches = await asyncio.gather(*(self._finding.match(asked, one) for one in permitted))
                receipts = await self._recording.matches(asked, matches)
                yield Release(await asyncio.to_thread(_text, file, matches, subset), receipts)
            after = pointers[-1]
            await self._gate.known(asked)
        if not await self._at.exports.is_made(job.id):
            # Its pointers may be gone: what was sent is not the whole file, and must not look like it.
            raise NotFound("The export was removed.")

    async def _permitted(
        self, asked: Asked, file: ExportFile, pointers: Sequence[Pointer]
    ) -> list[Permitted]:
        """What may be released now, of a slice."""
        if file.deleted:
            return await self._still_deleted(asked, pointers)
        found = await self._finding.pointed(asked, pointers, EVERYBODY)
        return [found[one] for one in pointers if one in found and self._scoped(asked, found[one].record)]

    async def _still_deleted(self, asked: Asked, pointers: Sequence[Pointer]) -> list[Permitted]:
        versions = await reading.pointed(self._at.database, pointers)
        current = [found[0] for found in versions if found and found[0].deleted]
        rows = await self._finding.owned(current, EVERYBODY)
        permitted = await self._finding.permitted(asked, rows, EVERYBODY)
        return [one for one in permitted if self._scoped(asked, one.record)]

    def _scoped(self, asked: Asked, record: Record) -> bool:
        return self._gate.scoped(asked, record.resource_type, record.custodian)


def _text(file: ExportFile, matches: Sequence[Match], subset: Subset | None) -> str:
    if file.deleted:
        return export.deletions([one.reference for one in matches])
    return "".join(export.line(subset.of(one.content) if subset else one.content) for one in matches)


def _members(group: Record, base_url: str) -> tuple[str, ...]:
    return export.group_members(body_of(group.content), base_url)


def _bound(asked: Asked) -> bytes:
    """Whose job it is: another caller, organisation or purpose gets no further than to a 404."""
    return sha256(binding(asked.caller).encode()).digest()


def _saved(asked: Asked, question: ExportQuestion, types: Sequence[str]) -> dict[str, object]:
    """All that the making of a job and its manifest need, as JSON."""
    request = asked.request
    address = f"{_links(asked)}{request.target.removeprefix('/fhir')}"
    return {
        "question": question.saved(),
        "types": list(types),
        "caller": saved_caller(asked),
        "request": address if request.method == "GET" else address.partition("?")[0],
        "trace_id": request.trace_id,
        "request_id": request.request_id,
        "method": request.method,
        "target": request.target,
        "base_url": request.base_url,
    }


def _links(asked: Asked) -> str:
    """The base as the caller reaches it."""
    return asked.links_under or asked.request.base_url


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("There is no such export.") from error


def _raise_failure(job: Job) -> None:
    if job.state == "failed":
        failure = job.failure or {}
        if failure.get("code") == TooCostly.code:
            raise TooCostly(failure["text"])
        raise ExportFailed
