"""A small FHIR server over a real socket, which can be told to misbehave in any way a source might."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from app.records.remote import RemoteQuestion
from app.vocabulary import (
    NHS_NUMBER_SYSTEM,
    Caller,
    LocalPatient,
    NhsNumber,
    OdsCode,
    PatientIdentity,
    PatientKey,
    PersonKey,
    PurposeOfUse,
)

NUMBER = NhsNumber("9990000026")
OTHER_NUMBER = NhsNumber("9990000034")

CALLER = Caller(
    subject="dr-1",
    client_id="ward-system",
    organisation=OdsCode("RX1"),
    purpose=PurposeOfUse.TREAT,
    scopes=("system/*.rs",),
    token_id="t1",
    expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    roles=("R8000",),
)
IDENTITY = PatientIdentity(
    person=PersonKey(7),
    asked=LocalPatient(PatientKey(1), "local-1", OdsCode("RX1")),
    local=(LocalPatient(PatientKey(1), "local-1", OdsCode("RX1")),),
    nhs_number=NUMBER,
    consent_epoch=0,
)
QUESTION = RemoteQuestion(
    resource_type="Observation",
    pairs=(),
    identity=IDENTITY,
    nhs_number_system=NHS_NUMBER_SYSTEM,
    caller=CALLER,
    trace_id="0af7651916cd43dd8448eb211c80319c",
    request_id="request-1",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came over the wire; header names are lower-case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True) + parse_qsl(self.body.decode())


@dataclass(frozen=True, slots=True)
class Sent:
    body: str | bytes = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def raw(self) -> bytes:
        body = self.body.encode() if isinstance(self.body, str) else self.body
        lines = [f"HTTP/1.1 {self.status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[Sent | None]]


def saying(body: str | bytes, status: int = 200, **headers: str) -> Behaviour:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
        return Sent(body, status, {name.replace("_", "-"): value for name, value in headers.items()})

    return answer


@dataclass
class Hospital:
    """Answers look-ups by NHS number and searches by patient; ``instead`` replaces the answer at a path."""

    patients: list[dict[str, Any]] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    instead: dict[str, Behaviour] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    base_url: str = ""
    connections: set[asyncio.Task[Any] | None] = field(default_factory=set)

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/fhir")

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> Sent | None:
        self.asked.append(asked)
        if behaviour := self.instead.get(asked.path) or self.instead.get("*"):
            return await behaviour(asked, writer)
        if asked.path.startswith("/fhir/Patient") and "identifier" in dict(asked.pairs):
            wanted = dict(asked.pairs)["identifier"].partition("|")[2]
            return Sent(searchset(json.dumps(one) for one in self.patients if wanted in json.dumps(one)))
        if asked.path.endswith("/$everything"):
            return Sent(searchset([*(json.dumps(one) for one in self.patients), *self.records]))
        kind = asked.path.rpartition("/")[2]
        return Sent(searchset(one for one in self.records if f'"{kind}"' in one))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.current_task())
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                sent = await self.answer(await _read(head, reader), writer)
                if sent is None:
                    return
                writer.write(sent.raw())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()


async def _read(head: str, reader: asyncio.StreamReader) -> Asked:
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
    }
    return Asked(method, target, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


@asynccontextmanager
async def a_hospital(**given: Any) -> AsyncIterator[Hospital]:
    """One that knows the person as Patient p1, with two observations."""
    hospital = Hospital(patients=[patient("p1")], records=[observation("o1"), observation("o2")])
    for name, value in given.items():
        setattr(hospital, name, value)
    server = await asyncio.start_server(hospital.serve, "127.0.0.1", 0)
    hospital.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/fhir"
    try:
        yield hospital
    finally:
        server.close()
        for task in filter(None, hospital.connections):
            task.cancel()


def patient(id: str, number: NhsNumber = NUMBER, **members: Any) -> dict[str, Any]:
    identifier = {"system": NHS_NUMBER_SYSTEM, "value": number.digits}
    return {"resourceType": "Patient", "id": id, "identifier": [identifier], **members}


def observation(id: str, subject: str = "Patient/p1") -> str:
    return (
        f'{{"resourceType":"Observation","id":"{id}","meta":{{"versionId":"3","lastUpdated":'
        f'"2026-11-02T10:00:00.123Z"}},"status":"final","code":{{"text":"Hb"}},"subject":{{"reference":"{subject}"}},'
        '"valueQuantity":{"value":6.30}}'
    )


def searchset(resources: Any, *, link: str = "", mode: str = "match", more: str = "") -> str:
    """A searchset of resource texts; ``link`` is a whole link array, ``more`` further entries."""
    entries = [f'{{"resource":{one},"search":{{"mode":"{mode}"}}}}' for one in resources]
    entry = f',"entry":[{",".join([*entries, *([more] if more else [])])}]' if entries or more else ""
    return f'{{"resourceType":"Bundle","type":"searchset"{f",{link}" if link else ""}{entry}}}'


def linking(**links: str) -> str:
    return '"link":' + json.dumps([{"relation": name, "url": url} for name, url in links.items()])
