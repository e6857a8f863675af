"""Making an export: in the background, slice by slice, by whichever process holds the job's lease.

What is found is a list of pointers to what the caller may be released, each person decided under their own directives.
Nothing leaves here: a download reads and decides again. Everything that a step needs is in the database, so that a
process that is killed takes nothing along.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import structlog

from app.asked import Asked
from app.audit.entry import Interaction
from app.disclosure.finding import EVERYBODY, Finding, Permitted, Within, body_of
from app.disclosure.gate import Gate, Reading
from app.disclosure.lookups import Lookups
from app.errors import CandourError, NotAuthenticated, TooCostly, Unavailable
from app.fhir.criteria import Criterion
from app.fhir.export import ExportQuestion
from app.fhir.indexing import references_of
from app.records import exports
from app.records.exports import Exports, Job, LostLease
from app.records.reading import Pointer, Record
from app.smart.access import caller_of, claims_of
from app.vocabulary import NO_PATIENT, PatientKey, Request

SLICE = 250
"""Candidates that are read and decided in one step: few, for whoever else asks meanwhile waits for it."""

_TURN_SECONDS = 2.0
"""How long one job is gone on with before another has its turn."""
_LOOKS_SECONDS = 2.0
"""How often an idle process looks for jobs that others began or left."""
_STOP_SECONDS = 5.0
_LOOKED_UP = 32
_MOST_FAILURES = 5
_SETTLING = timedelta(milliseconds=200)
"""By how much the clocks of processes on one database may differ."""
_ONLY_READS = timedelta(seconds=15)
"""After so long a transaction that has written nothing is taken to be none that writes."""

log = structlog.get_logger("candour.export")


@dataclass(frozen=True, slots=True)
class Plan:
    """A job as its making sees it: for whom, what, and up to which instant."""

    asked: Asked
    question: ExportQuestion
    types: tuple[str, ...]
    patients: tuple[PatientKey, ...] | None
    at: datetime

    @classmethod
    def of(cls, job: Job) -> Plan:
        return cls(
            asked_again(job),
            ExportQuestion.restore(job.asked["question"]),
            tuple(job.asked["types"]),
            job.patients,
            job.transaction_time,
        )

    def holds(self, at: datetime) -> bool:
        """Whether what was written ``at`` then belongs to the export."""
        since = self.question.since
        return at <= self.at and (since is None or at > since) and self.is_early_enough(at)

    def is_early_enough(self, at: datetime) -> bool:
        return self.question.until is None or at < self.question.until

    @property
    def filtered(self) -> frozenset[str]:
        """Types of which only what fulfils a filter is wanted."""
        return frozenset(kind for kind, _ in self.question.filters)

    @property
    def steps(self) -> Sequence[Step]:
        """What is gone through, in an order that is the same for every process."""
        if self.patients is not None:
            walks: list[Step] = [Step("patient", key=key) for key in self.patients]
        else:
            walks = [Step("type", resource_type=one) for one in self.types]
            if self.question.since is not None:
                walks += [Step("deleted", resource_type=one) for one in self.types]
        if self.question.level != "system" and "Provenance" in self.types:
            walks.append(Step("provenance", resource_type="Provenance"))
        return walks


@dataclass(frozen=True, slots=True)
class Step:
    """One walk: through a type, its deletions, a patient's compartment, or what tells where found records come from."""

    kind: str
    resource_type: str = ""
    key: PatientKey = NO_PATIENT


@dataclass(slots=True)
class Found:
    """What a slice has brought."""

    looked_at: int
    after: list[str]
    """Where the walk goes on."""
    live: list[Pointer] = field(default_factory=list)
    deleted: list[Pointer] = field(default_factory=list)


def saved_caller(asked: Asked) -> dict[str, Any]:
    """Who asked, as JSON: what an access token of theirs would say."""
    return claims_of(asked.caller, asked.request.base_url, issued_at=asked.request.at)


def asked_again(job: Job) -> Asked:
    """The request of the kick-off, for the decisions made in its name."""
    kept = job.asked
    request = Request(
        trace_id=kept["trace_id"],
        request_id=kept["request_id"],
        at=job.created_at,
        method=kept["method"],
        target=kept["target"],
        client_address="",
        base_url=kept["base_url"],
    )
    return Asked(request, caller_of(kept["caller"]), Interaction.EXPORT)


class Making:
    """``start`` before use, ``stop`` at the end; one task for each process."""

    def __init__(self, at: Reading, gate: Gate, finding: Finding, lookups: Lookups) -> None:
        self._at = at
        self._kept: Exports = at.exports
        self._selection = Selection(at, gate, finding, lookups)
        self._gate = gate
        self._worker = uuid4()
        self._came = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._work_for_ever(), name="exports")

    async def stop(self) -> None:
        """Ends after the step under way; what is left to do is anybody's from then on."""
        self._stopping = True
        self._came.set()
        if self._task is None:
            return
        with suppress(asyncio.TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(self._task, _STOP_SECONDS)
        self._task = None

    def look(self) -> None:
        """There is a new job."""
        self._came.set()

    async def _work_for_ever(self) -> None:
        while not self._stopping:
            try:
                if await self._turn() or await self._kept.sweep():
                    continue
            except Unavailable:
                pass  # it is asked again as everything else is
            except Exception as error:  # noqa: BLE001  # the outermost of this task: told, and tried again
                log.error("export stumbled", kind=type(error).__name__)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._came.wait(), _LOOKS_SECONDS)
            self._came.clear()

    async def _turn(self) -> bool:
        """Goes on with one job for a while; whether there was one."""
        job = await self._kept.take(self._worker)
        if job is None:
            return False
        try:
            await self._go_on(job)
        except (LostLease, Unavailable):
            pass
        except (TooCostly, NotAuthenticated) as error:
            await self._kept.fail(job.id, self._worker, code=error.code, text=str(error))
        except Exception as error:  # noqa: BLE001  # one job's failure is not the others'
            await self._failed(job, error)
        return True

    async def _failed(self, job: Job, error: Exception) -> None:
        log.error("an export's step failed", kind=type(error).__name__, failures=job.failures + 1)
        if job.failures + 1 >= _MOST_FAILURES:
            await self._kept.fail(job.id, self._worker, code=CandourError.code, text="")
            return
        pause = timedelta(seconds=5 * (job.failures + 1))
        await self._kept.leave(job.id, self._worker, failures=job.failures + 1, pause=pause)

    async def _go_on(self, job: Job) -> None:
        plan, place = Plan.of(job), Place.restore(job.place)
        await self._gate.known(plan.asked)
        if not place.settled:
            place = await self._settled(job, place)
            await self._kept.keep(job.id, self._worker, [], [], place.saved())
            if not place.settled:
                await self._kept.leave(job.id, self._worker)
                return
        steps, ends = plan.steps, time.monotonic() + _TURN_SECONDS
        while place.step < len(steps):
            if self._stopping or time.monotonic() > ends:
                await self._kept.leave(job.id, self._worker)
                return
            place = await self._step(job, plan, steps, place)
        await self._kept.finish(job.id, self._worker)

    async def _step(self, job: Job, plan: Plan, steps: Sequence[Step], place: Place) -> Place:
        """A slice of candidates, through as many short walks as it takes; kept with where the next one begins."""
        live: list[Pointer] = []
        deleted: list[Pointer] = []
        looked_at = 0
        while looked_at < SLICE and place.step < len(steps):
            if steps[place.step].kind == "provenance" and live:
                break  # it asks what was found, and that must be kept
            limit = SLICE - looked_at
            found = await self._selection.slice(job.id, plan, steps[place.step], place.after, limit)
            live, deleted = [*live, *found.live], [*deleted, *found.deleted]
            looked_at += max(1, found.looked_at)
            done = found.looked_at < limit
            place = Place(place.step + 1, (), True) if done else replace(place, after=tuple(found.after))
        await self._kept.keep(job.id, self._worker, live, deleted, place.saved())
        return place

    async def _settled(self, job: Job, place: Place) -> Place:
        """Waits, for a turn at most, for every write that may bear an instant up to the job's and is not committed."""
        if place.waits is None:
            early = job.transaction_time + _SETTLING - self._at.clock.now()
            await asyncio.sleep(max(0.0, early.total_seconds()))
            place = replace(place, waits=tuple(await self._kept.under_way()))
        ends = time.monotonic() + _TURN_SECONDS
        while place.waits:
            now = await self._kept.under_way()
            late = self._at.clock.now() - job.transaction_time > _ONLY_READS
            place = replace(place, waits=tuple(one for one in place.waits or () if _writes(now, one, late)))
            if time.monotonic() > ends or self._stopping:
                break
            await asyncio.sleep(0.05 if place.waits else 0)
        return replace(place, settled=not place.waits)


def _writes(under_way: Mapping[str, bool], transaction: str, late: bool) -> bool:
    """Whether it may still write: one that has written nothing for long is taken to be none that does."""
    return transaction in under_way and (under_way[transaction] or not late)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a job has come. ``waits``: transactions whose end it waits for before it begins."""

    step: int = 0
    after: tuple[str, ...] = ()
    settled: bool = False
    waits: tuple[str, ...] | None = None

    def saved(self) -> dict[str, Any]:
        return {"step": self.step, "after": self.after, "settled": self.settled, "waits": self.waits}

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> Place:
        waits = saved.get("waits")
        return cls(
            saved.get("step", 0),
            tuple(saved.get("after", ())),
            saved.get("settled", False),
            None if waits is None else tuple(waits),
        )


class Selection:
    """Which candidates of a slice the caller may be released."""

    def __init__(self, at: Reading, gate: Gate, finding: Finding, lookups: Lookups) -> None:
        self._at = at
        self._gate = gate
        self._finding = finding
        self._lookups = lookups
        self._criteria: dict[tuple[UUID, str], list[tuple[Criterion, ...]]] = {}
        """What was looked up, by job and type: one process's saving of time, no more."""

    async def slice(self, job_id: UUID, plan: Plan, step: Step, after: Sequence[str], limit: int) -> Found:
        match step.kind:
            case "patient":
                return await self._of_patient(job_id, plan, step, after, limit)
            case "provenance":
                return await self._of_provenance(job_id, plan, after, limit)
        return await self._of_type(job_id, plan, step, after, limit)

    async def _of_type(self, job_id: UUID, plan: Plan, step: Step, after: Sequence[str], limit: int) -> Found:
        is_deleted = step.kind == "deleted"
        batch = await self._walk(plan, step.resource_type, after, limit, deleted=is_deleted)
        found = Found(len(batch), _after(batch[-1]) if batch else [])
        held = [one for one in batch if self._belongs(plan, one)]
        if is_deleted:
            found.deleted = await self._deleted(plan, held)
        else:
            found.live = await self._live(job_id, plan, held)
        return found

    async def _walk(
        self, plan: Plan, resource_type: str, after: Sequence[str], limit: int, *, deleted: bool
    ) -> list[Record]:
        begins = (
            (datetime.fromisoformat(after[0]), after[1]) if after else exports.beginning(plan.question.since)
        )
        return await exports.walk_type(self._at.database, resource_type, begins, deleted=deleted, limit=limit)

    async def _of_patient(
        self, job_id: UUID, plan: Plan, step: Step, after: Sequence[str], limit: int
    ) -> Found:
        begins = (after[0], after[1]) if after else ("", "")
        batch = await exports.walk_patient(self._at.database, step.key, plan.types, begins, limit=limit)
        found = Found(len(batch), [batch[-1][0].resource_type, batch[-1][0].id] if batch else [])
        homes = {(one.resource_type, one.id): home for one, home in batch}
        held = [one for one, _ in batch if self._belongs(plan, one)]
        live = await self._live(job_id, plan, [one for one in held if not one.deleted], homes)
        found.live = live
        if plan.question.since is not None:
            deleted = await self._deleted(plan, [one for one in held if one.deleted])
            found.deleted = [_at_home(one, homes) for one in deleted]
        return found

    def _belongs(self, plan: Plan, record: Record) -> bool:
        """Whether it is of the kind that the level exports, and within the caller's scopes."""
        if not self._gate.scoped(plan.asked, record.resource_type, record.custodian):
            return False
        if record.resource_type == "Binary" and record.patient_key != NO_PATIENT:
            return False  # its DocumentReference says all that an export may (Bulk Data, "Kick-off Request")
        if plan.question.level == "system":
            return True
        if plan.question.patients and not set(record.also_patients) <= set(plan.patients or ()):
            return False  # it is in the compartment of somebody who was not asked about, too
        return record.patient_key != NO_PATIENT

    async def _live(
        self,
        job_id: UUID,
        plan: Plan,
        batch: Sequence[Record],
        homes: Mapping[tuple[str, str], PatientKey] | None = None,
    ) -> list[Pointer]:
        meant = await self._filtered(job_id, plan, batch)
        current = [one for one in meant if plan.holds(one.last_updated)]
        found = await self._permitted(plan, current)
        pointers = [_at_home(one.record.pointer, homes) for one in found]
        changed = [_record_at_home(one, homes) for one in meant if one.last_updated > plan.at]
        return [*pointers, *await self._changed_since(plan, changed)]

    async def _changed_since(self, plan: Plan, records: Sequence[Record]) -> list[Pointer]:
        """As they were at the job's instant; of a type with filters as they are, for it is that which fulfils them."""
        then = {
            (one.pointer.resource_type, one.pointer.id): one.pointer
            for one in await exports.as_of(self._at.database, records, plan.at)
            if not one.deleted and plan.holds(one.last_updated)
        }
        wanted = []
        for record in records:
            pointer = then.get((record.resource_type, record.id))
            if pointer is not None and record.resource_type not in plan.filtered:
                wanted.append(pointer)
            elif pointer is not None and plan.is_early_enough(record.last_updated):
                wanted.append(record.pointer)
        return list(await self._finding.pointed(plan.asked, wanted, EVERYBODY)) if wanted else []

    async def _deleted(self, plan: Plan, batch: Sequence[Record]) -> list[Pointer]:
        """Of whose deletion the caller may know: whoever might read the record, were it there, and nobody else.

        A filter does not count: what a deleted record said is not known any more.
        """
        held = [one for one in batch if plan.holds(one.last_updated)]
        return [one.record.pointer for one in await self._permitted(plan, held)]

    async def _permitted(self, plan: Plan, records: Sequence[Record]) -> list[Permitted]:
        rows = await self._finding.owned(records, EVERYBODY)
        return await self._finding.permitted(plan.asked, rows, EVERYBODY)

    async def _filtered(self, job_id: UUID, plan: Plan, batch: Sequence[Record]) -> list[Record]:
        found = list(batch)
        for kind in sorted(plan.filtered):
            of_kind = [one for one in found if one.resource_type == kind]
            if of_kind:
                alternatives = await self._alternatives(job_id, plan, kind)
                meeting = await exports.meeting(self._at.database, of_kind, alternatives)
                found = [one for one in found if one.resource_type != kind or one.id in meeting]
        return found

    async def _alternatives(self, job_id: UUID, plan: Plan, kind: str) -> list[tuple[Criterion, ...]]:
        """The filters of a type, with what they look up in other resources looked up under the caller's decisions."""
        kept = self._criteria.get((job_id, kind))
        if kept is None:
            if len(self._criteria) >= _LOOKED_UP:
                self._criteria.clear()
            within = EVERYBODY if plan.patients is None else Within(patients=plan.patients)
            kept = [
                await self._lookups.resolved(plan.asked, kind, query.criteria, within)
                for query in plan.question.queries(kind, plan.asked.request.base_url)
            ]
            self._criteria[job_id, kind] = kept
        return kept

    async def _of_provenance(self, job_id: UUID, plan: Plan, after: Sequence[str], limit: int) -> Found:
        """Provenance that names no patient, of what was found (Bulk Data: it SHALL come along)."""
        batch = await self._walk(plan, "Provenance", after, limit, deleted=False)
        found = Found(len(batch), _after(batch[-1]) if batch else [])
        nobodys = [one for one in batch if one.patient_key == NO_PATIENT and plan.holds(one.last_updated)]
        nobodys = await self._filtered(job_id, plan, nobodys)
        if not nobodys:
            return found
        told = await self._finding.pointed(plan.asked, [one.pointer for one in nobodys], EVERYBODY)
        base = plan.asked.request.base_url
        targets = {
            pointer: {
                (one.type, one.id)
                for one in references_of(body_of(permitted.record.content), ["target"], base)
                if one.type and one.id
            }
            for pointer, permitted in told.items()
        }
        named = sorted({one for every in targets.values() for one in every})
        among = await self._at.exports.among_found(job_id, named)
        found.live = [pointer for pointer, every in targets.items() if every & among]
        return found


def _after(record: Record) -> list[str]:
    return [record.last_updated.isoformat(), record.id]


def _at_home(pointer: Pointer, homes: Mapping[tuple[str, str], PatientKey] | None) -> Pointer:
    """A record of several patients is found with each of them, and kept with one."""
    return (
        pointer if homes is None else pointer._replace(patient_key=homes[pointer.resource_type, pointer.id])
    )


def _record_at_home(record: Record, homes: Mapping[tuple[str, str], PatientKey] | None) -> Record:
    return record if homes is None else replace(record, patient_key=homes[record.resource_type, record.id])
