"""Every source is asked at once, none holds up another, and each that was expected has its line."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.db import Database
from app.errors import DatabaseUnavailable
from app.fhir.manifest import is_complete
from app.records.federation import FAILURES, PAUSE_SECONDS, Answer, Breaker, Federation
from app.records.remote import RemoteQuestion, Remotes
from app.records.sources import Source, SourceRegister
from app.vocabulary import Caller, EmergencyReason, OdsCode, PurposeOfUse
from tests.servers import Server, named
from tests.unit.records.hospital import (
    CALLER,
    NUMBER,
    OTHER_NUMBER,
    QUESTION,
    Asked,
    Hospital,
    Sent,
    a_hospital,
    linking,
    observation,
    patient,
    saying,
    searchset,
)

DEADLINE = 1.0
EMERGENCY = replace(
    QUESTION,
    caller=replace(
        CALLER,
        purpose=PurposeOfUse.BTG,
        emergency=EmergencyReason(f"nhs|{NUMBER.digits}", "1", "unconscious"),
    ),
)


def no_assertion(source: Source, caller: Caller) -> str:
    raise AssertionError("these sources have no token endpoint")


class Country:
    """Hospitals RX0, RX1 … as the sources of one federation."""

    def __init__(self, database: Database, stack: AsyncExitStack) -> None:
        self.register = SourceRegister(database)
        self.federation = Federation(self.register, Remotes(self.register, no_assertion), DEADLINE)
        self._stack = stack
        self.hospitals: list[Hospital] = []

    async def hospital(self, **instead: Any) -> Hospital:
        """The next one; ``instead`` says what it answers to a search, a look-up or anything."""
        place = len(self.hospitals)
        hospital = await self._stack.enter_async_context(a_hospital(records=[observation(f"o{place}")]))
        paths = {"search": "/fhir/Observation", "look_up": "/fhir/Patient", "anything": "*"}
        hospital.instead |= {paths[name]: behaviour for name, behaviour in instead.items()}
        self.hospitals.append(hospital)
        await self.register.add(OdsCode(f"RX{place}"), hospital.base_url, kind="fhir", name=f"Trust {place}")
        return hospital

    async def ask(self, question: RemoteQuestion = QUESTION) -> tuple[Answer, ...]:
        return await self.federation.ask(question)


@pytest.fixture
async def country(sources_database: Database) -> AsyncIterator[Country]:
    await sources_database.pool.execute("DELETE FROM source")
    async with AsyncExitStack() as stack:
        made = Country(sources_database, stack)
        stack.push_async_callback(made.federation.close)
        yield made


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def states(answers: tuple[Answer, ...]) -> dict[str, str]:
    return {answer.line.custodian: answer.line.state.value for answer in answers}


def records(answers: tuple[Answer, ...]) -> list[str]:
    return [record.id for answer in answers for record in answer.records]


async def never(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drips(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def late(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
    await asyncio.sleep(DEADLINE + 0.3)
    return Sent(searchset([observation("late")]))


STRANGER = (
    '{"resourceType":"Observation","id":"x","status":"final","code":{},"subject":{"reference":"Patient/p2"}}'
)
NEXT_ELSEWHERE = linking(next="https://elsewhere.example/fhir/Observation?page=2")

FAULTS: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("answers right", {}, "fresh", ["o1"]),
    ("knows nobody", {"look_up": saying(searchset([]))}, "no-record", []),
    ("is late", {"search": late}, "timed-out", []),
    ("never answers", {"anything": never}, "timed-out", []),
    ("drips", {"search": drips}, "timed-out", []),
    ("fails", {"search": saying("", 500)}, "down", []),
    ("speaks garbage", {"search": saying("\x00\x01")}, "down", []),
    ("refuses", {"search": saying("", 403)}, "refused", []),
    ("is busy", {"search": saying("", 429)}, "throttled", []),
    ("does not offer the type", {"search": saying("", 404)}, "not-supported", []),
    ("does not understand", {"search": saying("", 400)}, "partial", []),
    ("is huge", {"search": saying(b" " * (17 * 1024 * 1024))}, "partial", []),
    ("sends elsewhere", {"search": saying("", 302, Location="https://elsewhere.example/")}, "down", []),
    (
        "goes on elsewhere",
        {"search": saying(searchset([observation("o1")], link=NEXT_ELSEWHERE))},
        "partial",
        ["o1"],
    ),
    ("answers for another", {"search": saying(searchset([STRANGER]))}, "identity-uncertain", []),
    (
        "answers for two",
        {"search": saying(searchset([observation("o1"), STRANGER]))},
        "identity-uncertain",
        [],
    ),
    (
        "finds another by the number",
        {"look_up": saying(searchset([json.dumps(patient("p1", OTHER_NUMBER))]))},
        "identity-uncertain",
        [],
    ),
]


@pytest.mark.parametrize(
    ("instead", "state", "given_ids"), [row[1:] for row in FAULTS], ids=[r[0] for r in FAULTS]
)
async def test_a_fault_of_one_source_has_its_line_and_spares_the_others(
    country: Country, instead: dict[str, Any], state: str, given_ids: list[str]
) -> None:
    await country.hospital()
    await country.hospital(**instead)
    await country.hospital()
    answers = await country.ask()
    assert states(answers) == {"RX0": "fresh", "RX1": state, "RX2": "fresh"}
    assert records(answers) == ["o0", *given_ids, "o2"]
    assert [answer.line.name for answer in answers] == ["Trust 0", "Trust 1", "Trust 2"]


async def test_no_sources_are_no_answers(country: Country) -> None:
    assert await country.ask() == ()
    assert await country.federation.sources() == ()


async def test_sources_are_asked_at_the_same_time(country: Country) -> None:
    everybody_asked = asyncio.Barrier(4)

    async def together(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
        await everybody_asked.wait()
        return Sent(searchset([observation("o")]))

    for _ in range(4):
        await country.hospital(search=together)
    assert set(states(await country.ask()).values()) == {"fresh"}


async def test_the_answer_comes_at_the_deadline_whatever_the_sources_do(country: Country) -> None:
    await country.hospital()
    for behaviour in (never, drips, late):
        await country.hospital(anything=behaviour)
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = await country.ask()
    assert loop.time() - began < DEADLINE + 1
    assert list(states(answers).values()) == ["fresh", "timed-out", "timed-out", "timed-out"]
    assert not is_complete(answer.line for answer in answers)


async def test_a_line_never_counts_what_came(country: Country) -> None:
    """Beside what is shown, the number of what came would tell what was withheld."""
    await country.hospital()
    assert [answer.line.count for answer in await country.ask()] == [None]


async def test_a_question_that_was_passed_on_is_not_passed_on_again(country: Country) -> None:
    hospital = await country.hospital()
    with pytest.raises(ValueError, match="never passed on"):
        await country.ask(replace(QUESTION, caller=replace(CALLER, via="other-node")))
    assert hospital.asked == []


async def test_a_source_that_answered_for_another_is_left_alone_until_it_is_cleared(
    country: Country, log: list[Any]
) -> None:
    hospital = await country.hospital(search=saying(searchset([STRANGER])))
    assert states(await country.ask()) == {"RX0": "identity-uncertain"}
    assert [line["event"] for line in log if line["log_level"] == "warning"] == ["source quarantined"]
    hospital.asked.clear()
    hospital.instead.clear()
    assert states(await country.ask()) == {"RX0": "identity-uncertain"}
    assert hospital.asked == []
    await country.register.clear(OdsCode("RX0"))
    assert states(await country.ask()) == {"RX0": "fresh"}


async def test_a_quarantine_holds_in_every_process(country: Country, sources_database: Database) -> None:
    hospital = await country.hospital(search=saying(searchset([STRANGER])))
    await country.ask()
    hospital.asked.clear()
    register = SourceRegister(sources_database)
    elsewhere = Federation(register, Remotes(register, no_assertion), DEADLINE)
    assert states(await elsewhere.ask(QUESTION)) == {"RX0": "identity-uncertain"}
    assert hospital.asked == []
    await elsewhere.close()


async def test_an_emergency_does_not_open_a_quarantine(country: Country) -> None:
    hospital = await country.hospital(search=saying(searchset([STRANGER])))
    await country.ask()
    hospital.asked.clear()
    assert states(await country.ask(EMERGENCY)) == {"RX0": "identity-uncertain"}
    assert hospital.asked == []


async def test_a_failing_source_is_left_alone_and_an_emergency_asks_it_all_the_same(country: Country) -> None:
    hospital = await country.hospital(anything=saying("", 500))
    for _ in range(FAILURES):
        await country.ask()
    hospital.asked.clear()
    hospital.instead.clear()
    assert states(await country.ask()) == {"RX0": "down"}
    assert hospital.asked == []
    assert states(await country.ask(EMERGENCY)) == {"RX0": "fresh"}
    assert states(await country.ask()) == {"RX0": "fresh"}


async def test_a_caller_who_goes_away_takes_the_questions_along(country: Country) -> None:
    searched = asyncio.Event()
    stopped = asyncio.Event()

    async def waits(asked: Asked, writer: asyncio.StreamWriter) -> None:
        searched.set()
        try:
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            stopped.set()

    await country.hospital(search=waits)
    unhurried = Federation(country.register, Remotes(country.register, no_assertion), 30)
    asking = asyncio.create_task(unhurried.ask(QUESTION))
    await searched.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(stopped.wait(), 10)
    await unhurried.close()


async def test_closing_stops_what_is_still_asked(country: Country) -> None:
    arrived = asyncio.Event()

    async def arrives(asked: Asked, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await never(asked, writer)

    await country.hospital(anything=arrives)
    asking = asyncio.create_task(country.ask())
    await arrived.wait()
    await country.federation.close()
    assert states(await asking) == {"RX0": "timed-out"}


async def test_a_lost_database_is_an_outage_and_no_line(
    country: Country, postgres: Server, database_name: str
) -> None:
    hospital = await country.hospital()
    lost = await Database.connect(postgres.url(database=database_name), size=1)
    register = SourceRegister(lost)
    federation = Federation(register, Remotes(register, no_assertion), DEADLINE)
    await lost.close()
    with pytest.raises(DatabaseUnavailable):
        await federation.ask(QUESTION)
    await federation.close()
    assert hospital.asked == []


async def test_a_database_lost_while_sources_answer_is_an_outage_and_no_line(
    country: Country, sources_database: Database, postgres: Server
) -> None:
    lost = await Database.connect(postgres.url(database=named("sources")), size=1)

    async def loses(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
        await lost.close()
        return Sent(searchset([STRANGER]))

    await country.hospital(search=loses)
    register = SourceRegister(lost)
    federation = Federation(register, Remotes(register, no_assertion), DEADLINE)
    with pytest.raises(DatabaseUnavailable):
        await federation.ask(QUESTION)
    await federation.close()


# The breaker.


def test_a_breaker_opens_after_straight_failures_only() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.settle(0, failed=True)
    breaker.settle(0, failed=False)
    for _ in range(FAILURES - 1):
        breaker.settle(0, failed=True)
    assert breaker.admits(0)
    breaker.settle(0, failed=True)
    assert not breaker.admits(0)


def test_a_breaker_lets_one_probe_through_after_its_pause() -> None:
    breaker = _opened()
    assert not breaker.admits(PAUSE_SECONDS * 0.7)
    assert breaker.admits(PAUSE_SECONDS * 1.3)
    assert not breaker.admits(PAUSE_SECONDS * 1.3)
    breaker.settle(PAUSE_SECONDS * 1.3, failed=True)
    assert not breaker.admits(PAUSE_SECONDS * 1.4)
    assert breaker.admits(PAUSE_SECONDS * 3)
    breaker.settle(PAUSE_SECONDS * 3, failed=False)
    assert breaker.admits(PAUSE_SECONDS * 3) and breaker.admits(PAUSE_SECONDS * 3)


def test_a_probe_that_was_abandoned_is_made_again() -> None:
    breaker = _opened()
    assert breaker.admits(PAUSE_SECONDS * 2)
    breaker.abandon()
    assert breaker.admits(PAUSE_SECONDS * 2)


def test_an_emergency_is_let_through_an_open_breaker() -> None:
    assert _opened().admits(0, forced=True)


@given(st.lists(st.sampled_from(["ask", "fail", "succeed", "abandon", "wait"])))
def test_a_breaker_never_shuts_a_source_out_for_good(events: list[str]) -> None:
    breaker, now = Breaker(), 0.0
    for event in events:
        now += 1
        if event == "ask":
            breaker.admits(now)
        elif event == "abandon":
            breaker.abandon()
        elif event == "wait":
            now += PAUSE_SECONDS
        else:
            breaker.settle(now, failed=event == "fail")
    breaker.abandon()
    assert breaker.admits(now + PAUSE_SECONDS * 1.3)


def _opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.settle(0, failed=True)
    return breaker
