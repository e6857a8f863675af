"""One source, asked over HTTP for one person's records (notes 6.1, 6.5). Nobody else imports httpx.

The NHS number is looked up at the source every time; a remembered Patient id only lets the question run beside the
look-up instead of after it. What the source answers is used when all of it is about that person, and not otherwise.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx

from app.records.answers import (
    MOST_ENTRIES,
    Page,
    RemoteRecord,
    about_the_person,
    ignored_parameters,
    people,
    read_page,
    strangers,
    within,
)
from app.records.calls import Call, RemoteQuestion, Reply, failure, headers, lookup, search
from app.records.sources import KnownPatients, Source, SourceRegister
from app.records.tokens import TokenCache, read_token, token_form, token_key
from app.records.unanswered import (
    Down,
    IdentityUncertain,
    NoRecord,
    NotUnderstood,
    Refused,
    TimedOut,
    Unanswered,
)
from app.records.wire import Allowance, TooMuch, bounded
from app.vocabulary import Caller, NhsNumber

__all__ = ["RemoteAnswer", "RemoteQuestion", "RemoteRecord", "RemoteSource", "Remotes"]

Assertion = Callable[[Source, Caller], str]
"""A signed client assertion of this node for a source's token endpoint, which carries the original caller."""

CONNECT_SECONDS: Final = 0.5
_SILENCE_SECONDS: Final = 30.0
_MOST_PATIENTS: Final = 32
_OFF_THE_LOOP: Final = 256 * 1024
"""Bytes of an answer from which reading it would hold up every other request."""

# The library logs every address at INFO, and the address of a look-up may hold an NHS number.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class RemoteAnswer:
    """What a source holds about the person. ``gap``: it is known that something is missing."""

    records: tuple[RemoteRecord, ...]
    gap: bool


class Remotes:
    """The sources as they can be asked; one client each, so that a slow one holds up nobody else."""

    def __init__(
        self, register: SourceRegister, assertion: Assertion, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._register = register
        self._assertion = assertion
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._open: dict[Source, RemoteSource] = {}

    def to(self, source: Source) -> "RemoteSource":
        """The same for the same registration, so that connections and tokens are kept."""
        registered = replace(source, quarantined=False)
        if registered not in self._open:
            self._open[registered] = RemoteSource(registered, self._register, self._assertion, tls=self._tls)
        return self._open[registered]

    async def close(self) -> None:
        remotes, self._open = list(self._open.values()), {}
        for remote in remotes:
            await remote.close()


class RemoteSource:
    """A source and the connections to it."""

    def __init__(
        self,
        source: Source,
        register: SourceRegister,
        assertion: Assertion,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._source = source
        self._register = register
        self._assertion = assertion
        self._tokens = TokenCache()
        self._client = httpx.AsyncClient(
            verify=tls or httpx.create_ssl_context(trust_env=False),
            timeout=httpx.Timeout(_SILENCE_SECONDS, connect=CONNECT_SECONDS),
            # Shorter than the five seconds after which servers of our own kind close an idle connection.
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=3.0),
            follow_redirects=False,
            trust_env=False,
            # One caller's cookie must not go out with another's question.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"User-Agent": "candour", "Accept-Encoding": "gzip"},
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, question: RemoteQuestion) -> RemoteAnswer:
        """What the source holds about the person. Raises a kind of Unanswered, TimedOut after the deadline."""
        try:
            async with asyncio.timeout_at(question.deadline):
                return await self._answer(question)
        except TimeoutError as error:
            raise TimedOut("no answer before the deadline") from error

    async def _answer(self, question: RemoteQuestion) -> RemoteAnswer:
        number = question.identity.nhs_number
        if number is None:
            raise IdentityUncertain("a person without an NHS number cannot be looked up")
        await self._bearer(question.caller)  # once, for the two that follow beside each other
        known = question.known.get(self._source.ods_code)
        ahead = asyncio.create_task(self._gather(question, known)) if known and known.asked else None
        try:
            found = await self._find(question, number)
            if ahead is not None and found == known:
                gathered = await ahead
            else:
                await self._remember(question, found, known)
                gathered = await self._gather(question, found)
        finally:
            _abandon(ahead)
        return await self._checked(question, number, found, gathered)

    # Who it is there.

    async def _find(self, question: RemoteQuestion, number: NhsNumber) -> KnownPatients:
        """The person's Patients at the source, by NHS number. Raises NoRecord."""
        answer = await self._pages(question, lookup(self._source, question, number), "Patient", Allowance())
        if answer.gap or len(answer.records) > _MOST_PATIENTS:
            raise IdentityUncertain("the look-up of the number gave no whole answer")
        return people(
            answer.records,
            number=number,
            system=question.nhs_number_system,
            birth_date=question.birth_date,
            linked_count_as_asked=self._source.kind == "candour",
        )

    async def _remember(
        self, question: RemoteQuestion, found: KnownPatients, known: KnownPatients | None
    ) -> None:
        """Keeps what is new. Raises NoRecord when the person has no Patient there."""
        if found != known:
            ods, person = self._source.ods_code, question.identity.person
            await self._register.remember_patient(ods, person, found.asked, found.every)
        if not found.asked:
            raise NoRecord("no Patient with this number")

    # What it holds.

    async def _gather(self, question: RemoteQuestion, found: KnownPatients) -> RemoteAnswer:
        """Everything asked about each of the person's Patients there, as it came."""
        ids = sorted(found.every) if question.resource_type == "Patient" else found.asked
        allowance, records, gap = Allowance(), list[RemoteRecord](), False
        for id in ids:
            answer = await self._pages(
                question, search(self._source, question, id), question.resource_type, allowance
            )
            records += answer.records
            gap = gap or answer.gap
        return RemoteAnswer(tuple(records), gap)

    async def _pages(
        self, question: RemoteQuestion, first: Call, asked_type: str | None, allowance: Allowance
    ) -> RemoteAnswer:
        """Every page from ``first`` on. Once there was one, what fails afterwards is a gap."""
        records, call, gap, visited = list[RemoteRecord](), first, False, {first.url}
        while True:
            try:
                allowance.turn_page()
                reply = await self._ask(question.caller, call, headers(question), allowance)
                page = await self._read(reply.body, asked_type)
            except TooMuch:
                return RemoteAnswer(tuple(records), True)
            except Unanswered:
                if call is first:
                    raise
                return RemoteAnswer(tuple(records), True)
            if call is first and ignored_parameters(page.self_url, call.criteria):
                raise NotUnderstood("a search parameter was ignored")
            records += page.records
            gap = gap or page.gap
            if page.next_url is None:
                return RemoteAnswer(tuple(records[:MOST_ENTRIES]), gap or len(records) > MOST_ENTRIES)
            target = within(self._source.base_url, reply.url, page.next_url)
            if target is None or target in visited or len(records) >= MOST_ENTRIES:
                return RemoteAnswer(tuple(records[:MOST_ENTRIES]), True)
            visited.add(target)
            call = replace(first, method="GET", url=target, params=(), form=None)

    async def _read(self, body: bytes, asked_type: str | None) -> Page:
        def read() -> Page:
            source = self._source
            return read_page(body, custodian=source.ods_code, base_url=source.base_url, asked_type=asked_type)

        return await asyncio.to_thread(read) if len(body) > _OFF_THE_LOOP else read()

    async def _checked(
        self, question: RemoteQuestion, number: NhsNumber, found: KnownPatients, answer: RemoteAnswer
    ) -> RemoteAnswer:
        """The answer when all of it is about the person. Raises WrongPatient."""
        base, every, hidden = self._source.base_url, found.every, set[str]()
        if strangers(answer.records, every, base_url=base):
            # A Patient may have been added between the look-up and the search: look again before accusing.
            every |= (await self._find(question, number)).every
            hidden = await self._hidden(question, strangers(answer.records, every, base_url=base))
        records, gap = about_the_person(
            answer.records, every, base_url=base, asked_type=question.resource_type, hidden=hidden
        )
        return RemoteAnswer(records, gap or answer.gap)

    async def _hidden(self, question: RemoteQuestion, ids: set[str]) -> set[str]:
        """Those of ``ids`` whose Patients another node does not show us.

        It answers for all Patients of a person, and its consent may hold back one Patient (a restricted one, say)
        and not their records. That is no answer for another patient; neither can it be verified.
        """
        hidden: set[str] = set()
        if self._source.kind != "candour" or len(ids) > _MOST_PATIENTS:
            return hidden
        for id in sorted(ids):
            call = Call("GET", f"{self._source.base_url}/Patient/{id}", missing=NoRecord)
            try:
                await self._ask(question.caller, call, headers(question), Allowance())
            except NoRecord:
                hidden.add(id)
            except TooMuch as error:
                raise Down("a Patient beyond all bounds") from error
        return hidden

    # HTTP.

    async def _ask(self, caller: Caller, call: Call, sent: Mapping[str, str], allowance: Allowance) -> Reply:
        """A reply of status 200, under one fresh token when the kept one was refused."""
        bearer = await self._bearer(caller)
        reply = await self._send(call, sent, bearer, allowance)
        if reply.status == 401 and bearer is not None:
            self._tokens.drop(token_key(self._source, caller), bearer)
            reply = await self._send(call, sent, await self._bearer(caller), allowance)
        if reply.status != 200:
            raise failure(reply, call)
        return reply

    async def _bearer(self, caller: Caller) -> str | None:
        """A token of ours that carries ``caller``; None for a source that has no token endpoint."""
        if self._source.token_url is None:
            return None
        now = asyncio.get_running_loop().time()
        key = token_key(self._source, caller)
        if kept := self._tokens.find(key, now):
            return kept
        form = token_form(self._assertion(self._source, caller))
        call = Call("POST", self._source.token_url, form=form, missing=Down, misunderstood=Refused)
        try:
            reply = await self._send(call, {"Accept": "application/json"}, None, Allowance(64 * 1024))
        except TooMuch as error:
            raise Down("the token endpoint's answer is too long") from error
        if reply.status != 200:
            raise failure(reply, call)
        token = read_token(reply.body, now)
        self._tokens.keep(key, token)
        return token.bearer

    async def _send(
        self, call: Call, fields: Mapping[str, str], bearer: str | None, allowance: Allowance
    ) -> Reply:
        """One request; one more when no connection could be made. Raises TimedOut, Down, TooMuch."""
        sent = {**fields, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        try:
            return await self._once(call, sent, allowance)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            pass
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _broken(error) from error
        try:
            return await self._once(call, sent, allowance)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _broken(error) from error

    async def _once(self, call: Call, sent: Mapping[str, str], allowance: Allowance) -> Reply:
        options: dict[str, Any] = {"params": list(call.params)} if call.params else {}
        async with self._client.stream(
            call.method, call.url, headers=sent, data=call.form, **options
        ) as response:
            retry_after = response.headers.get("retry-after")
            if response.status_code != 200:  # the status says all that we use
                return Reply(response.status_code, call.url, b"", retry_after)
            encoding = response.headers.get("content-encoding", "").strip().lower()
            body = await bounded(response.aiter_raw(), encoding, allowance)
            return Reply(200, str(response.url), body, retry_after)


def _broken(error: Exception) -> Unanswered:
    """What went wrong on the way, by its kind alone: a message could hold an address."""
    late = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
    return (TimedOut if late else Down)(type(error).__name__)


def _abandon(task: asyncio.Task[RemoteAnswer] | None) -> None:
    """Stops a question that has become pointless; how it ends is of no interest, but is looked at."""
    if task is not None:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.cancel()
