"""What one process does of loading: a batch of documents is kept, and said what became of each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from app.asked import Asked, Preference
from app.audit.entry import Interaction
from app.errors import CandourError, Conflict, Unavailable
from app.exchange import loadable_steps
from app.fhir.text import Parsed, parse
from app.main import Services
from app.vocabulary import Caller, OdsCode, PurposeOfUse, Request

_BATCH = 250
"""Resources that are kept in one transaction."""

_TRIES = 4


class Document(NamedTuple):
    """One JSON document of a file, with the place it has there."""

    place: str
    text: bytes


class Reject(NamedTuple):
    """What could not be kept, and why."""

    place: str
    reason: str
    text: str


@dataclass(slots=True)
class Done:
    """What became of a batch. ``stopped``: the database could not be reached, and the rest was left."""

    kept: int = 0
    unchanged: int = 0
    rejects: list[Reject] = field(default_factory=list)
    stopped: bool = False


@dataclass(slots=True)
class _Item:
    """One resource or Bundle, with the place it has in its file."""

    place: str
    parsed: Parsed


class Keeper:
    """Keeps batches in one node as one custodian's."""

    def __init__(self, node: Services, custodian: OdsCode) -> None:
        self._node = node
        self._custodian = custodian

    async def keep(self, batch: Sequence[Document]) -> Done:
        """Everything that can be kept of the batch; never raises what a record or the database is to blame for."""
        done = Done()
        items = [one for document in batch if (one := _item(document, done)) is not None]
        bundles = [one for one in items if one.parsed.value.get("resourceType") == "Bundle"]
        singles = [one for one in items if one.parsed.value.get("resourceType") != "Bundle"]
        try:
            for one in bundles:
                await self._bundle(one, done)
            await self._all(singles, done)
        except Unavailable:
            done.stopped = True
        return done

    async def _bundle(self, item: _Item, done: Done) -> None:
        """A transaction is kept whole or rejected whole; the entries of other Bundles stand for themselves."""
        if item.parsed.value.get("type") == "transaction":
            await self._together(item, item.parsed, done)
            return
        try:
            steps = loadable_steps(item.parsed)
        except CandourError as error:
            done.rejects.append(Reject(item.place, _reason(error), item.parsed.text))
            return
        singles = [_Item(f"{item.place} entry {step.place}", parse(step.text)) for step in steps if step.text]
        await self._all(singles, done)

    async def _all(self, items: Sequence[_Item], done: Done) -> None:
        for start in range(0, len(items), _BATCH):
            await self._singles(items[start : start + _BATCH], done)

    async def _singles(self, items: Sequence[_Item], done: Done) -> None:
        """A batch of resources in one transaction; one by one when the batch cannot be kept as a whole."""
        if len(items) > 1:
            try:
                await self._kept(_as_bundle(items), done)
            except Unavailable:
                raise
            except CandourError:
                """One of them is to blame: which one shows when each stands for itself."""
            else:
                return
        for item in items:
            await self._together(item, _as_bundle([item]), done)

    async def _together(self, item: _Item, bundle: Parsed, done: Done) -> None:
        try:
            await self._kept(bundle, done)
        except Unavailable:
            # No fault of the record's: the load stops, and can be repeated.
            raise
        except CandourError as error:
            done.rejects.append(Reject(item.place, _reason(error), item.parsed.text))

    async def _kept(self, bundle: Parsed, done: Done) -> None:
        """Keeps one transaction; repeated when another one was in its way."""
        for attempt in range(_TRIES):
            try:
                await self._try(bundle, done)
                return
            except Conflict:
                if attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(0.05 * 2**attempt)

    async def _try(self, bundle: Parsed, done: Done) -> None:
        asked = self._asked()
        exchange, submission = self._node.use_cases.exchange, self._node.use_cases.submission
        steps = loadable_steps(bundle)
        async with self._node.database.transaction() as connection:
            steps = await exchange.known(connection, asked, steps)
            changed = [one for one in await exchange.load(connection, asked, steps) if one.changed]
            if changed:
                await submission.record(connection, asked, changed)
        done.kept += len(changed)
        done.unchanged += len(steps) - len(changed)

    def _asked(self) -> Asked:
        now = datetime.now(UTC)
        base = self._node.settings.fhir_base
        request = Request(os.urandom(16).hex(), os.urandom(16).hex(), now, "POST", "candour load", "", base)
        caller = Caller(
            subject="candour-load",
            client_id="candour-load",
            organisation=self._custodian,
            purpose=PurposeOfUse.HSYSADMIN,
            scopes=("system/*.cruds",),
            token_id=str(uuid4()),
            expires_at=now + timedelta(days=1),
            name="candour load",
        )
        return Asked(request, caller, Interaction.TRANSACTION, prefers=Preference.MINIMAL)


def _item(document: Document, done: Done) -> _Item | None:
    try:
        return _Item(document.place, parse(document.text))
    except CandourError as error:
        done.rejects.append(Reject(document.place, _reason(error), document.text.decode(errors="replace")))
        return None


def _as_bundle(items: Sequence[_Item]) -> Parsed:
    """Resources as one Bundle, each text as it stands."""
    texts = [item.parsed.text.strip() for item in items]
    text = (
        '{"resourceType":"Bundle","type":"collection","entry":['
        + ",".join(f'{{"resource":{one}}}' for one in texts)
        + "]}"
    )
    value = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": item.parsed.value} for item in items],
    }
    return Parsed(text, value)


def _reason(error: CandourError) -> str:
    return "; ".join(
        f"{issue.expression}: {issue.text}" if issue.expression else issue.text for issue in error.issues[:5]
    )
