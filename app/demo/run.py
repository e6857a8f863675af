"""``candour demo``: two nodes with made-up people, one the source of the other, and what to paste to see it work.

Node A keeps Larkmere, Thornwick and both practices; node B keeps Ashdale. A also knows a source that is down.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from app import loading
from app.db import Database
from app.demo import synthea
from app.demo.bundles import bundles_for, consents_for, directory_bundle, to_text
from app.demo.organisations import ORGANISATIONS
from app.demo.people import generate
from app.demo.showcase import ASHDALE, CAST, HARBOURSIDE, LARKMERE, MILLBROOK, THORNWICK
from app.errors import NotStarted
from app.main import token_url
from app.opening import opened
from app.records.sources import SourceRegister
from app.settings import Settings
from app.smart.clients import Client, ClientRegister
from app.smart.keys import KeyStore
from app.vocabulary import OdsCode, PurposeOfUse

SEED = 2026
DOWN = OdsCode("RZ9")
"""A trust whose server cannot be reached: nothing listens on the discard port."""

_ALL = ("system/*.cruds", "system/Consent.cruds", "system/AuditEvent.rs")
_out = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Node:
    """One of the demonstration's two nodes."""

    name: str
    settings: Settings
    custodians: tuple[OdsCode, ...]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON},
            "CANDOUR_HOME": str(self.settings.home),
            "CANDOUR_PORT": str(self.settings.port),
            "CANDOUR_NODE_NAME": self.settings.node_name,
            "CANDOUR_CUSTODIANS": ",".join(self.custodians),
            "CANDOUR_LOG_LEVEL": "WARNING",
        }


_NOT_PASSED_ON = ("DATABASE_URL", "DATABASE_OWNER_URL", "CANDOUR_BASE_URL")


def demo(home: Path, *, people: int, port: int, data: Path | None) -> None:
    """Prepares what is not there yet, starts both nodes, prints what to try, and serves until Ctrl-C."""
    started = time.monotonic()
    home = home.resolve() / "demo"
    a = _node("a", home, port, (LARKMERE, THORNWICK, MILLBROOK, HARBOURSIDE))
    b = _node("b", home, port + 1, (ASHDALE,))
    files = _written(home, people, data)
    for node in (a, b):
        _filled(node, files)
    _introduced(a, b)
    with _serving(a), _serving(b):
        _out.print(f"\nBoth nodes are ready after {time.monotonic() - started:.0f} s.\n")
        Console(soft_wrap=True, highlight=False, markup=False).print(what_to_try(a, b, _showcase(home, data)))
        _until_interrupted()


def _node(name: str, home: Path, port: int, custodians: tuple[OdsCode, ...]) -> Node:
    settings = Settings(
        home=home / name,
        port=port,
        node_name=f"{name}.candour.localhost",
        custodians=",".join(custodians),
        base_url=f"http://127.0.0.1:{port}/fhir",
    )
    settings = settings.model_copy(update={"database_url": None, "database_owner_url": None})
    return Node(name, settings, custodians)


def _written(home: Path, people: int, data: Path | None) -> Path:
    """A folder with a file per custodian and person, in the order in which they are to be loaded."""
    target = home / ("data-synthea" if data else f"data-{people}")
    if (target / "complete").exists():
        return target
    if data is not None:
        synthea.write(data, target, (LARKMERE, THORNWICK, ASHDALE, MILLBROOK))
    else:
        _write_people(target, people)
    (target / "complete").touch()
    return target


def _write_people(target: Path, people: int) -> None:
    """Bundles by custodian; ``1-…`` hold the records, ``2-…`` the Consents, which refer to them."""
    for ods in ORGANISATIONS:
        (target / ods).mkdir(parents=True, exist_ok=True)
    (target / "organizations.json").write_text(to_text(directory_bundle()))
    for person in generate(SEED, people, datetime.now(UTC).date()):
        number = person.nhs_number.digits
        for ods, bundle in bundles_for(person):
            (target / ods / f"1-{number}.json").write_text(to_text(bundle))
        for ods, bundle in consents_for(person):
            (target / ods / f"2-consent-{number}.json").write_text(to_text(bundle))


def _filled(node: Node, files: Path) -> None:
    rejects = node.settings.home / "rejects"
    with opened(node.settings) as database:
        for place, ods in enumerate(node.custodians):
            # What belongs to nobody in particular lies at the top: the first custodian of a node keeps it.
            directory = (
                sorted(one for one in files.glob("*.json*") if one.name != "showcase.json")
                if place == 0
                else []
            )
            found = [
                *directory,
                *sorted((files / ods).glob("1-*.json")),
                *sorted((files / ods).glob("2-*.json")),
            ]
            if found:
                summary = loading.load(node.settings, database, found, ods, rejects)
                _out.print(f"  node {node.name}, {ods}: {summary.sentence}")


def _introduced(a: Node, b: Node) -> None:
    """Registers the callers of the demonstration, and each node where it is needed."""
    keys_of_a = KeyStore(a.settings.home / "keys").jwks()

    async def at_a(database: Database) -> None:
        clients, sources = ClientRegister(database), SourceRegister(database)
        for ods in a.custodians:
            await clients.add(_client(f"{ods.lower()}-system", ods, {"keys": []}))
        await sources.add(
            ASHDALE,
            b.settings.fhir_base,
            kind="candour",
            name=_name(ASHDALE),
            token_url=token_url(b.settings),
            client_id=a.settings.node_name,
        )
        await sources.add(DOWN, "http://127.0.0.1:9/fhir", kind="fhir", name="A trust that is down")

    async def at_b(database: Database) -> None:
        clients = ClientRegister(database)
        await clients.add(_client(f"{ASHDALE.lower()}-system", ASHDALE, {"keys": []}))
        node_a = _client(a.settings.node_name, LARKMERE, keys_of_a, kind="node")
        await clients.add(replace(node_a, speaks_for=a.custodians[1:]))

    for node, introduce in ((a, at_a), (b, at_b)):
        with opened(node.settings) as database:
            asyncio.run(_connected(database.owner_url, introduce))


async def _connected(url: str, work: object) -> None:
    database = await Database.connect(url, size=2)
    try:
        await work(database)  # type: ignore[operator]  # one of the two introductions above
    finally:
        await database.close()


def _client(client_id: str, ods: OdsCode, jwks: Mapping[str, object], *, kind: str = "system") -> Client:
    return Client(
        client_id,
        f"{_name(ods)} record system" if kind == "system" else f"node {client_id}",
        kind,  # type: ignore[arg-type]  # one of two constants above
        ods,
        jwks,
        _ALL,
        tuple(PurposeOfUse),
        _name(ods),
        emergency=True,
    )


def _name(ods: OdsCode) -> str:
    return ORGANISATIONS[ods].name


@contextmanager
def _serving(node: Node) -> Iterator[None]:
    command = [sys.executable, "-m", "app", "serve"]
    server = subprocess.Popen(command, env=node.environment, start_new_session=True)  # noqa: S603  # ourselves
    try:
        _wait_until_ready(node, server)
        yield
    finally:
        server.terminate()
        server.wait(timeout=60)


def _wait_until_ready(node: Node, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise NotStarted(f"node {node.name} did not start; is port {node.settings.port} in use?")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{node.settings.port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise NotStarted(f"node {node.name} did not become ready")


def _until_interrupted() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        _out.print("\nStopping both nodes.")


@dataclass(frozen=True, slots=True)
class Showcase:
    """The person whom the printed commands are about."""

    name: str
    nhs_number: str
    patient_id: str
    refused: OdsCode
    """The trust that their choice keeps out."""


def _showcase(home: Path, data: Path | None) -> Showcase:
    if data is not None:
        chosen = synthea.showcase(home / "data-synthea")
        return Showcase(
            chosen["name"], chosen["nhs_number"], chosen["patient_id"], OdsCode(chosen["refused"])
        )
    margaret = CAST["margaret"]
    return Showcase(margaret.name, margaret.nhs_number, margaret.patient_id(LARKMERE), THORNWICK)


def what_to_try(a: Node, b: Node, who: Showcase) -> str:
    """The commands to paste, in the order of the story."""
    base, command = a.settings.fhir_base, _command(a)
    read = f"{base}/Observation?patient={who.patient_id}&_sort=-date&_count=2"
    steps: Sequence[tuple[str, Sequence[str]]] = [
        (
            f"{_name(LARKMERE)} asks for {who.name}'s observations. Every source has its line in the answer; "
            f"{DOWN} is down and says so.",
            [
                f"TOKEN=$({command} token --client {LARKMERE.lower()}-system)",
                f'curl -s -H "Authorization: Bearer $TOKEN" "{read}"; echo',
            ],
        ),
        (
            f"{_name(who.refused)} asks the same. {who.name} has chosen to keep it out: it sees nothing, "
            "as if the record were not there.",
            [
                f"TOKEN=$({command} token --client {who.refused.lower()}-system)",
                f'curl -s -H "Authorization: Bearer $TOKEN" "{read}"; echo',
            ],
        ),
        (
            "The same trust in an emergency: with a reason, for this one person.",
            [
                f"TOKEN=$({command} token --client {who.refused.lower()}-system --purpose ETREAT "
                f'--patient {who.nhs_number} --reason "Unconscious in A&E")',
                f'curl -s -H "Authorization: Bearer $TOKEN" "{read}"; echo',
            ],
        ),
        (
            "Who looked, and why: the entries of all this, the refusal and the emergency too.",
            [
                f"TOKEN=$({command} token --client {LARKMERE.lower()}-system)",
                f'curl -s -H "Authorization: Bearer $TOKEN" "{base}/AuditEvent?patient={who.patient_id}"; echo',
            ],
        ),
        (
            "That nothing of the log was changed or left out: its whole tree, derived again.",
            [f"{command} verify"],
        ),
    ]
    lines = [f"Node A: {base}/metadata", f"Node B: {b.settings.fhir_base}/metadata", ""]
    for number, (sentence, commands) in enumerate(steps, 1):
        lines += [f"{number}. {sentence}", *(f"     {one}" for one in commands), ""]
    return "\n".join([*lines, "Stop with Ctrl-C."])


def _command(node: Node) -> str:
    """The candour command, told which node is meant."""
    words = [
        f"CANDOUR_HOME={node.settings.home}",
        f"CANDOUR_PORT={node.settings.port}",
        f"CANDOUR_NODE_NAME={node.settings.node_name}",
        f"{Path(sys.executable).parent / 'candour'}",
    ]
    return " ".join(words)
