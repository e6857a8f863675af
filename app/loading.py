"""``candour load``: records from files into this node's store, restartable, with what cannot be loaded set aside."""

from __future__ import annotations

import asyncio
import bz2
import codecs
import gzip
import hashlib
import json
import lzma
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.asked import Asked, Preference
from app.audit.entry import Interaction
from app.errors import CandourError, Conflict, DatabaseUnavailable, MalformedBody, Unavailable
from app.exchange import loadable_steps
from app.fhir.text import Parsed, parse
from app.main import Services, collect_seldom, services
from app.opening import Opened
from app.settings import Settings
from app.vocabulary import Caller, OdsCode, PurposeOfUse, Request

_OPENERS = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
_KINDS = (".json", ".ndjson", ".jsonl")
_FIRST = ("hospital", "organization", "location", "practitioner", "medication.", "patient.")
"""What others refer to is loaded before them, by its file's name."""

_STOPPED = "The database cannot be reached. What was loaded is kept; run the same command again for the rest."
_AT_ONCE = 3
_BATCH = 250
_TRIES = 4


@dataclass(slots=True)
class Summary:
    """What loading did."""

    files: int = 0
    already: int = 0
    kept: int = 0
    unchanged: int = 0
    rejected: int = 0
    rejects: Path | None = None

    @property
    def sentence(self) -> str:
        text = f"{self.kept} resources kept, {self.unchanged} known already, from {self.files} files"
        if self.already:
            text += f" ({self.already} more were loaded before)"
        if self.rejected:
            text += f"; {self.rejected} rejected, with reasons in {self.rejects}"
        return text + "."


def load(
    settings: Settings, database: Opened, paths: Sequence[Path], custodian: OdsCode, rejects: Path
) -> Summary:
    """Loads every file under ``paths`` as ``custodian``'s. A second run leaves alone what is there."""
    files = ordered(find(paths))
    if not files:
        raise MalformedBody(
            f"nothing to load: no file ending in {', '.join(_KINDS)} (.gz, .bz2, .xz) is there"
        )
    return uvloop.run(_load(settings, database, files, custodian, rejects))


def find(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [one for one in sorted(path.rglob("*")) if one.is_file() and _loadable(one)]
        elif path.is_file():
            found.append(path)
        else:
            raise MalformedBody(f"there is no file or folder {path}")
    return found


def ordered(files: Iterable[Path]) -> list[list[Path]]:
    """Files in the order of loading: groups, each of which may be loaded side by side."""
    groups: dict[int, list[Path]] = {}
    for file in files:
        name = file.name.lower()
        rank = next((place for place, word in enumerate(_FIRST) if word in name), len(_FIRST))
        groups.setdefault(rank, []).append(file)
    return [groups[rank] for rank in sorted(groups)]


def _loadable(path: Path) -> bool:
    name = path.name.lower()
    for ending in _OPENERS:
        name = name.removesuffix(ending)
    return name.endswith(_KINDS)


async def _load(
    settings: Settings, database: Opened, groups: list[list[Path]], custodian: OdsCode, rejects: Path
) -> Summary:
    async with services(settings, database.url) as node:
        collect_seldom()
        with _progress() as progress:
            loader = Loader(
                node,
                custodian,
                rejects,
                progress,
                sum(file.stat().st_size for group in groups for file in group),
            )
            for group in groups:
                await loader.files(group)
        return loader.summary


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[resources]:,} resources, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


@dataclass(slots=True)
class _Item:
    """One resource or Bundle of a file, with the place it has there."""

    place: str
    parsed: Parsed


@dataclass(slots=True)
class Loader:
    """Loads files into one node as one custodian."""

    node: Services
    custodian: OdsCode
    rejects: Path
    progress: Progress
    size: int
    summary: Summary = field(default_factory=Summary)
    _started: float = 0.0
    _task: TaskID = TaskID(0)  # noqa: RUF009  # an int

    def __post_init__(self) -> None:
        self._started = asyncio.get_running_loop().time()
        self._task = self.progress.add_task(
            f"Loading for {self.custodian}", total=self.size, resources=0, rate=0.0
        )

    async def files(self, group: Sequence[Path]) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)
        sizes = {file: file.stat().st_size for file in group}

        async def one(file: Path) -> None:
            async with gate:
                await self._file(file)
                self._advance(sizes[file])

        gone: ExceptionGroup[Unavailable] | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for file in group:
                    tasks.create_task(one(file))
        except* Unavailable as failed:
            gone = failed
        if gone is not None:
            raise DatabaseUnavailable(_STOPPED) from gone

    async def _file(self, file: Path) -> None:
        stored = await asyncio.to_thread(file.read_bytes)
        digest = hashlib.sha256(stored).digest()
        if await self._loaded(digest):
            self.summary.already += 1
            return
        self.summary.files += 1
        try:
            places = _places(stored, file.name)
        except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
            self._reject(file, "", f"The file cannot be read: {error}", None)
            return
        items = [one for place, text in places if (one := self._item(file, place, text)) is not None]
        bundles = [one for one in items if one.parsed.value.get("resourceType") == "Bundle"]
        singles = [one for one in items if one.parsed.value.get("resourceType") != "Bundle"]
        clean = len(items) == len(places)
        clean = all([await self._bundle(file, one) for one in bundles]) and clean
        for start in range(0, len(singles), _BATCH):
            clean = await self._singles(file, singles[start : start + _BATCH]) and clean
        if clean:
            await self._remember(digest)

    def _item(self, file: Path, place: str, text: bytes) -> _Item | None:
        try:
            return _Item(place, parse(text))
        except CandourError as error:
            self._reject(file, place, _reason(error), text.decode(errors="replace"))
            return None

    async def _bundle(self, file: Path, item: _Item) -> bool:
        """A transaction is kept whole or rejected whole; the entries of other Bundles stand for themselves."""
        if item.parsed.value.get("type") == "transaction":
            return await self._together(file, item, item.parsed)
        try:
            steps = loadable_steps(item.parsed)
        except CandourError as error:
            self._reject(file, item.place, _reason(error), item.parsed.text)
            return False
        singles = [_Item(f"{item.place} entry {step.place}", parse(step.text)) for step in steps if step.text]
        return all(
            [
                await self._singles(file, singles[start : start + _BATCH])
                for start in range(0, len(singles), _BATCH)
            ]
        )

    async def _singles(self, file: Path, items: Sequence[_Item]) -> bool:
        """A batch of resources in one transaction; one by one when the batch cannot be kept as a whole."""
        if not items:
            return True
        if len(items) == 1:
            return await self._together(file, items[0], _as_bundle(items))
        try:
            await self._kept(_as_bundle(items))
        except Unavailable:
            raise
        except CandourError:
            return all([await self._together(file, item, _as_bundle([item])) for item in items])
        return True

    async def _together(self, file: Path, item: _Item, bundle: Parsed) -> bool:
        try:
            await self._kept(bundle)
        except Unavailable:
            # No fault of the record's: the load stops, and can be repeated.
            raise
        except CandourError as error:
            self._reject(file, item.place, _reason(error), item.parsed.text)
            return False
        return True

    async def _kept(self, bundle: Parsed) -> None:
        """Keeps one transaction; repeated when another one was in its way."""
        for attempt in range(_TRIES):
            try:
                await self._try(bundle)
                return
            except Conflict:
                if attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(0.05 * 2**attempt)

    async def _try(self, bundle: Parsed) -> None:
        asked = self._asked()
        exchange, submission = self.node.use_cases.exchange, self.node.use_cases.submission
        steps = loadable_steps(bundle)
        async with self.node.database.transaction() as connection:
            steps = await exchange.known(connection, asked, steps)
            changed = [one for one in await exchange.load(connection, asked, steps) if one.changed]
            if changed:
                await submission.record(connection, asked, changed)
        self.summary.kept += len(changed)
        self.summary.unchanged += len(steps) - len(changed)
        self._advance(0)

    def _asked(self) -> Asked:
        now = datetime.now(UTC)
        base = self.node.settings.fhir_base
        request = Request(os.urandom(16).hex(), os.urandom(16).hex(), now, "POST", "candour load", "", base)
        caller = Caller(
            subject="candour-load",
            client_id="candour-load",
            organisation=self.custodian,
            purpose=PurposeOfUse.HSYSADMIN,
            scopes=("system/*.cruds",),
            token_id=str(uuid4()),
            expires_at=now + timedelta(days=1),
            name="candour load",
        )
        return Asked(request, caller, Interaction.TRANSACTION, prefers=Preference.MINIMAL)

    async def _loaded(self, digest: bytes) -> bool:
        async with self.node.database.connection() as connection:
            found = await connection.fetchval(
                "SELECT 1 FROM loaded_file WHERE digest = $1 AND custodian = $2", digest, self.custodian
            )
        return found is not None

    async def _remember(self, digest: bytes) -> None:
        async with self.node.database.connection() as connection:
            await connection.execute(
                "INSERT INTO loaded_file (digest, custodian) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                digest,
                self.custodian,
            )

    def _reject(self, file: Path, place: str, reason: str, text: str | None) -> None:
        """One line in the file's reject file; it may hold a patient's data, so only its owner reads it."""
        self.rejects.mkdir(parents=True, exist_ok=True)
        target = self.rejects / f"{file.name}.rejects.ndjson"
        line = json.dumps(
            {"file": str(file), "place": place, "reason": reason, "resource": text}, ensure_ascii=False
        )
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as lines:
            lines.write(line + "\n")
        self.summary.rejected += 1
        self.summary.rejects = self.rejects

    def _advance(self, size: int) -> None:
        done = self.summary.kept + self.summary.unchanged
        seconds = max(asyncio.get_running_loop().time() - self._started, 0.001)
        self.progress.update(self._task, advance=size, resources=done, rate=done / seconds)


def _places(stored: bytes, name: str) -> list[tuple[str, bytes]]:
    """The JSON documents of a file, each with its place there. Raises what a decompressor raises."""
    for ending, decompress in _OPENERS.items():
        if name.lower().endswith(ending):
            stored, name = decompress(stored), name[: -len(ending)]
    if not name.lower().endswith((".ndjson", ".jsonl")):
        return [("", stored)]
    # Only a line feed ends a line: JSON texts may hold every other separator of Unicode.
    lines = stored.removeprefix(codecs.BOM_UTF8).split(b"\n")
    return [(f"line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]


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
