"""Every refusal of a running service is an OperationOutcome, and nothing it says or logs names a patient."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.processes import Home, Running, System, a_home
from tests.world import DAVID, MARGARET, NHS, a_consent, a_patient, an_observation, denied_to

RX1, RX2 = System("rx1", "RX1"), System("rx2", "RX2")
FHIR = {"Content-Type": "application/fhir+json"}
LARGEST = 200_000


@dataclass
class Counter:
    """A running service, two callers, and everything it has said."""

    home: Home
    service: Running
    http: httpx.Client
    rx1: dict[str, str]
    rx2: dict[str, str]
    narrow: dict[str, str]
    said: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, who: dict[str, str] | None = None, **given: Any) -> httpx.Response:
        headers = {**(self.rx1 if who is None else who), **given.pop("headers", {})}
        answer = self.http.request(method, f"{self.home.base}{path}", headers=headers, **given)
        self.said.append(f"{answer.headers!r} {answer.text}")
        return answer


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    home = a_home(
        tmp_path_factory,
        "refusals",
        CANDOUR_CUSTODIANS="RX1,RX2",
        CANDOUR_MAX_BODY_BYTES=str(LARGEST),
        CANDOUR_LOG_LEVEL="DEBUG",
    )
    with home.serving() as service, httpx.Client(timeout=20) as http:
        home.register(RX1.registration(), RX2.registration())
        narrow = RX1.bearer(home, scope="system/Condition.rs")
        made = Counter(home, service, http, RX1.bearer(home), RX2.bearer(home), narrow)
        for number, id in ((MARGARET, "p1"), (DAVID, "p2")):
            kept = made.ask("PUT", f"/Patient/{id}", json=a_patient(id, number), headers=FHIR)
            assert kept.status_code == 201, kept.text
        made.ask("PUT", "/Observation/o1", content=an_observation("p1", id="o1"), headers=FHIR)
        made.ask("POST", "/Consent", json=a_consent("p2", **denied_to("RX2")), headers=FHIR)
        yield made


OBSERVATION = an_observation("p1")
WITH_NUMBER = json.dumps({"resourceType": "Observation", "status": MARGARET, "code": {"text": MARGARET}})

REFUSALS: list[tuple[int, str, str, dict[str, Any]]] = [
    (400, "POST", "/Observation", {"content": "{", "headers": FHIR}),
    (400, "POST", "/Observation", {"content": b'{"resourceType":"\xff"}', "headers": FHIR}),
    (400, "POST", "/Observation", {"content": "[" * 5000, "headers": FHIR}),
    (400, "GET", f"/Observation?patient=p1&date=ge{MARGARET}x", {}),
    (400, "GET", f"/Observation?nhs-number={MARGARET}", {"headers": {"Prefer": "handling=strict"}}),
    (400, "GET", "/Observation?patient=%ff", {}),
    (400, "GET", "/AuditEvent", {}),
    (400, "POST", "", {"json": {"resourceType": "Bundle", "type": "document"}, "headers": FHIR}),
    (401, "GET", "/Patient/p1", {"who": {}}),
    (401, "GET", "/Patient/p1", {"who": {"Authorization": "Bearer not.a.token"}}),
    (401, "GET", "/Patient/p1", {"who": {"Authorization": "Basic cm9vdDpyb290"}}),
    (403, "GET", "/Observation/o1", {"who": "narrow"}),
    (
        403,
        "PUT",
        "/Observation/o1",
        {"who": "rx2", "content": an_observation("p1", id="o1"), "headers": FHIR},
    ),
    (403, "GET", "/AuditEvent?patient=p1", {"who": "rx2"}),
    (404, "GET", "/Observation/there-is-none", {}),
    (404, "GET", "/Patient/p2", {"who": "rx2"}),
    (404, "GET", "/patient/p1", {}),
    (404, "GET", "/Petient/p1", {}),
    (404, "GET", f"/Observation/o1/{MARGARET}", {}),
    (404, "GET", f"/Patient/{MARGARET}", {}),
    (404, "GET", "/Observation/o1/_history/9", {}),
    (400, "PATCH", "/Observation/o1", {"json": {"resourceType": "Patient"}, "headers": FHIR}),
    (400, "PATCH", "/Observation", {"json": {"resourceType": "Parameters"}, "headers": FHIR}),
    (400, "DELETE", "/Observation", {}),
    (400, "DELETE", "/Observation?nonsense=1", {}),
    (400, "PUT", "/Observation?_count=1", {"content": OBSERVATION, "headers": FHIR}),
    (405, "DELETE", "/Observation/_search", {}),
    (405, "TRACE", "/Observation/o1", {}),
    (405, "OPTIONS", "/Observation/o1", {}),
    (405, "PUT", "/metadata", {"json": {}, "headers": FHIR}),
    (406, "GET", "/Observation/o1", {"headers": {"Accept": "text/html"}}),
    (406, "GET", "/Observation/o1?_format=ttl", {}),
    (
        412,
        "PUT",
        "/Observation/o1",
        {"content": an_observation("p1", id="o1", value="73"), "headers": {**FHIR, "If-Match": 'W/"7"'}},
    ),
    (413, "POST", "/Observation", {"content": b" " * (LARGEST + 1), "headers": FHIR}),
    (413, "POST", "/Observation", {"content": (b" " * 10_000 for _ in range(30)), "headers": FHIR}),
    (415, "POST", "/Observation", {"content": OBSERVATION, "headers": {"Content-Type": "text/plain"}}),
    (415, "POST", "/Observation", {"content": OBSERVATION}),
    (415, "POST", "/Patient/_search", {"json": {"identifier": f"{NHS}|{MARGARET}"}}),
    (422, "POST", "/Observation", {"content": WITH_NUMBER, "headers": FHIR}),
    (400, "PUT", "/Observation/o1", {"content": OBSERVATION, "headers": FHIR}),
    (403, "POST", "/AuditEvent", {"json": {"resourceType": "AuditEvent"}, "headers": FHIR}),
]


@pytest.mark.parametrize(
    ("status", "method", "path", "given"),
    REFUSALS,
    ids=[f"{status} {method} {number}" for number, (status, method, _, _) in enumerate(REFUSALS)],
)
def test_a_refusal_is_an_operation_outcome(
    counter: Counter, status: int, method: str, path: str, given: dict[str, Any]
) -> None:
    who = given.get("who")
    chosen = getattr(counter, who) if isinstance(who, str) else who
    answer = counter.ask(method, path, chosen, **{name: one for name, one in given.items() if name != "who"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/fhir+json")
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    for issue in outcome["issue"]:
        assert issue["severity"] == "error" and issue["code"] and issue["details"]["text"]
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if status == 405:
        assert answer.headers["allow"]


def test_a_body_that_never_ends_is_refused_without_being_read(counter: Counter) -> None:
    """Announced or not, what is too large is answered long before its end."""
    head = (
        f"POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nAuthorization: {counter.rx1['Authorization']}\r\n"
        "Content-Type: application/fhir+json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", counter.home.port), timeout=10) as connection:
        connection.sendall(head.encode())
        for _ in range(LARGEST // 0x10000 + 2):
            connection.sendall(chunk)
        answered = connection.recv(65536)
    assert answered.startswith(b"HTTP/1.1 413"), answered[:200]
    assert counter.ask("GET", "/Observation/o1").status_code == 200


@pytest.mark.parametrize(
    "broken",
    [
        b"NOT HTTP\r\n\r\n",
        b"GET /fhir/Patient/9990000018 HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n",
    ],
)
def test_what_is_not_http_does_no_harm(counter: Counter, broken: bytes) -> None:
    with socket.create_connection(("127.0.0.1", counter.home.port), timeout=10) as connection:
        connection.sendall(broken)
        assert not connection.recv(65536).startswith(b"HTTP/1.1 2")
    assert counter.ask("GET", "/Observation/o1").status_code == 200


def test_nothing_that_was_said_or_logged_names_a_patient(counter: Counter) -> None:
    """Last: it looks back on all the requests above. Only what was served to who may have it holds a number."""
    found = counter.ask("POST", "/Patient/_search", data={"identifier": f"{NHS}|{MARGARET}"})
    assert found.json()["entry"][0]["resource"]["id"] == "p1"
    counter.said.pop()
    refused = [one for one in counter.said if '"OperationOutcome"' in one and '"Bundle"' not in one]
    assert len(refused) > 30
    for text in [*refused, counter.service.told]:
        assert MARGARET not in text and DAVID not in text
        assert "Traceback" not in text and "SELECT" not in text and "Okafor" not in text
    assert counter.service.told.count('"event":"answered"') > 40


def test_every_request_to_a_patients_data_left_an_entry(counter: Counter) -> None:
    before = len(counter.home.events())
    counter.ask("GET", "/Observation/o1", counter.narrow)
    counter.ask("GET", "/Patient/p2", counter.rx2)
    counter.ask("GET", "/Observation/o1", headers={"Accept": "text/html"})
    outcomes = [event["outcome"] for event in counter.home.events()[before:]]
    assert outcomes == ["4", "4", "4"]
