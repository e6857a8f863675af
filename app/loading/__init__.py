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
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.db import APPLICATION_ROLE, Database
from app.errors import DatabaseUnavailable, MalformedBody, Unavailable
from app.loading.keeping import Document, Done
from app.loading.workers import Keep, beside, here
from app.opening import Opened
from app.settings import Settings
from app.vocabulary import OdsCode

_OPENERS = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
_KINDS = (".json", ".ndjson", ".jsonl")
_FIRST = ("hospital", "organization", "location", "practitioner", "medication.", "patient.")
"""What others refer to is loaded before them, by its file's name."""

_LAST = "binary"
"""Files of bytes: whose they are is told by a resource that has to be there."""

_STOPPED = "The database cannot be reached. What was loaded is kept; run the same command again for the rest."
_BATCH = 250
"""Documents that are handed to a process at once."""

_WORTH_PROCESSES = 8 << 20
"""Bytes from which on it pays to start processes: each takes a second or two to be ready."""

_MOST_PROCESSES = 8


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
    settings: Settings,
    database: Opened,
    paths: Sequence[Path],
    custodian: OdsCode,
    rejects: Path,
    *,
    processes: int | None = None,
) -> Summary:
    """Loads every file under ``paths`` as ``custodian``'s. A second run leaves alone what is there.

    ``processes``: how many work at it; by default as many as there are processors, where there is enough to load.
    """
    files = ordered(find(paths))
    if not files:
        raise MalformedBody(
            f"nothing to load: no file ending in {', '.join(_KINDS)} (.gz, .bz2, .xz) is there"
        )
    size = sum(file.stat().st_size for group in files for file in group)
    if processes is None:
        processes = min(os.cpu_count() or 1, _MOST_PROCESSES) if size >= _WORTH_PROCESSES else 1
    return uvloop.run(_load(settings, database, files, custodian, rejects, size, processes))


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
        if name.startswith(_LAST):
            rank = len(_FIRST) + 1
        groups.setdefault(rank, []).append(file)
    return [groups[rank] for rank in sorted(groups)]


def _loadable(path: Path) -> bool:
    name = path.name.lower()
    for ending in _OPENERS:
        name = name.removesuffix(ending)
    return name.endswith(_KINDS)


async def _load(
    settings: Settings,
    opened: Opened,
    groups: list[list[Path]],
    custodian: OdsCode,
    rejects: Path,
    size: int,
    processes: int,
) -> Summary:
    database = await Database.connect(opened.url, role=APPLICATION_ROLE, size=2)
    keeping = (
        here(settings, opened.url, custodian)
        if processes == 1
        else beside(settings, opened.url, custodian, processes)
    )
    try:
        async with keeping as keep:
            with _progress() as progress:
                # Beside each batch that is being kept one waits to be, so that no process is idle.
                loader = Loader(database, keep, custodian, rejects, progress, size, at_once=2 * processes + 1)
                for group in groups:
                    await loader.files(group)
            return loader.summary
    finally:
        await database.close()


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
class Loader:
    """Reads files, hands their documents to whoever keeps them, and remembers what became of them."""

    database: Database
    keep: Keep
    custodian: OdsCode
    rejects: Path
    progress: Progress
    size: int
    at_once: int
    summary: Summary = field(default_factory=Summary)
    _started: float = 0.0
    _task: TaskID = TaskID(0)  # noqa: RUF009  # an int
    _batches: asyncio.Semaphore = field(default_factory=asyncio.Semaphore)

    def __post_init__(self) -> None:
        self._started = asyncio.get_running_loop().time()
        self._batches = asyncio.Semaphore(self.at_once)
        self._task = self.progress.add_task(
            f"Loading for {self.custodian}", total=self.size, resources=0, rate=0.0
        )

    async def files(self, group: Sequence[Path]) -> None:
        """Side by side, as many as are read at once."""
        gate = asyncio.Semaphore(self.at_once)

        sizes = {file: file.stat().st_size for file in group}

        async def one(file: Path) -> None:
            async with gate:
                await self._file(file, sizes[file])

        gone: ExceptionGroup[Unavailable] | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for file in group:
                    tasks.create_task(one(file))
        except* Unavailable as failed:
            gone = failed
        if gone is not None:
            raise DatabaseUnavailable(_STOPPED) from gone

    async def _file(self, file: Path, size: int) -> None:
        stored = await asyncio.to_thread(file.read_bytes)
        digest = hashlib.sha256(stored).digest()
        if await self._loaded(digest):
            self.summary.already += 1
            self._advance(size)
            return
        self.summary.files += 1
        try:
            documents = await asyncio.to_thread(_documents, stored, file.name)
        except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
            self._reject(file, "", f"The file cannot be read: {error}", None)
            self._advance(size)
            return
        if await self._documents(file, documents, size):
            await self._remember(digest)

    async def _documents(self, file: Path, documents: Sequence[Document], size: int) -> bool:
        """Whether all of them were kept. Raises DatabaseUnavailable."""
        batches = [documents[start : start + _BATCH] for start in range(0, len(documents), _BATCH)]

        async def one(batch: Sequence[Document]) -> bool:
            async with self._batches:
                done = await self.keep(batch)
            self._count(file, done)
            self._advance(size / len(batches))
            return not done.rejects

        return all(await asyncio.gather(*(one(batch) for batch in batches)))

    def _count(self, file: Path, done: Done) -> None:
        self.summary.kept += done.kept
        self.summary.unchanged += done.unchanged
        for reject in done.rejects:
            self._reject(file, *reject)
        if done.stopped:
            raise DatabaseUnavailable(_STOPPED)

    async def _loaded(self, digest: bytes) -> bool:
        async with self.database.connection() as connection:
            found = await connection.fetchval(
                "SELECT 1 FROM loaded_file WHERE digest = $1 AND custodian = $2", digest, self.custodian
            )
        return found is not None

    async def _remember(self, digest: bytes) -> None:
        async with self.database.connection() as connection:
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

    def _advance(self, size: float) -> None:
        done = self.summary.kept + self.summary.unchanged
        seconds = max(asyncio.get_running_loop().time() - self._started, 0.001)
        self.progress.update(self._task, advance=size, resources=done, rate=done / seconds)


def _documents(stored: bytes, name: str) -> list[Document]:
    """The JSON documents of a file, each with its place there. Raises what a decompressor raises."""
    for ending, decompress in _OPENERS.items():
        if name.lower().endswith(ending):
            stored, name = decompress(stored), name[: -len(ending)]
    if not name.lower().endswith((".ndjson", ".jsonl")):
        return [Document("", stored)]
    # Only a line feed ends a line: JSON texts may hold every other separator of Unicode.
    lines = stored.removeprefix(codecs.BOM_UTF8).split(b"\n")
    return [Document(f"line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
