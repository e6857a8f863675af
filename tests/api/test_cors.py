"""Browser apps: those of named origins may call, others may not, and nobody's cookies are ever lent."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from pydantic import ValidationError

from app.db import APPLICATION_ROLE, Database
from app.settings import Settings
from tests.servers import Server
from tests.world import World, a_world

Who = dict[str, str]
APP = "https://app.example"
PREFLIGHT = {"Origin": APP, "Access-Control-Request-Method": "PUT"}
EXPOSED = {
    "ETag",
    "Location",
    "Last-Modified",
    "Content-Location",
    "X-Request-Id",
    "WWW-Authenticate",
    "Retry-After",
}


@pytest_asyncio.fixture(loop_scope="session")
async def open_to_apps(
    postgres: Server, database_name: str, owner: Database, tmp_path: Path
) -> AsyncIterator[World]:
    url = postgres.url(user=APPLICATION_ROLE, database=database_name)
    async with a_world(url, owner, tmp_path, cors_origins=f"{APP}, http://localhost:3000") as made:
        await made.client("rx1", "RX1")
        yield made


async def options(world: World, path: str, **headers: str) -> httpx.Response:
    return await world.http.options(
        path, headers={**PREFLIGHT, **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


@pytest.mark.parametrize(
    "path",
    ["/fhir/Patient/p1", "/fhir", "/oauth/token", "/fhir/.well-known/smart-configuration", "/fhir/metadata"],
)
async def test_an_app_of_a_named_origin_may_ask_first(path: str, open_to_apps: World) -> None:
    wanted = "authorization, content-type, if-match, if-none-exist, prefer, x-request-id"
    answer = await options(open_to_apps, path, Access_Control_Request_Headers=wanted)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == APP
    assert "PUT" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(one in allowed for one in wanted.split(", "))
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "https://app.example.evil.example"},
        {"Origin": "http://app.example"},
        {"Origin": "null"},
        {"Access_Control_Request_Method": "TRACE"},
        {"Access_Control_Request_Headers": "x-unheard-of"},
    ],
)
async def test_any_other_is_refused_as_this_service_refuses(headers: Who, open_to_apps: World) -> None:
    answer = await options(open_to_apps, "/fhir/Patient/p1", **headers)
    assert answer.status_code == 403
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert "access-control-allow-origin" not in answer.headers


async def test_answers_and_refusals_can_be_read_by_the_app(open_to_apps: World) -> None:
    who = await open_to_apps.bearer("rx1")
    await open_to_apps.patient(who, "p1")
    for status, headers, path in (
        (200, who, "/fhir/Patient/p1"),
        (404, who, "/fhir/Patient/none"),
        (404, {}, "/fhir/nonsense/none"),
        (401, {}, "/fhir/Patient/p1"),
        (200, {}, "/fhir/metadata"),
        (200, {}, "/fhir/.well-known/smart-configuration"),
        (405, {}, "/oauth/token"),
    ):
        answer = await open_to_apps.http.get(path, headers={**headers, "Origin": APP})
        assert answer.status_code == status
        assert answer.headers.get_list("access-control-allow-origin") == [APP], path
        assert {one.strip() for one in answer.headers["access-control-expose-headers"].split(",")} >= EXPOSED
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
    read = await open_to_apps.http.get("/fhir/Patient/p1", headers={**who, "Origin": APP})
    assert read.headers["vary"] == "Accept, Accept-Encoding, Origin"


async def test_another_origin_gets_no_leave_to_read(open_to_apps: World) -> None:
    who = await open_to_apps.bearer("rx1")
    await open_to_apps.patient(who, "p1")
    answer = await open_to_apps.http.get(
        "/fhir/Patient/p1", headers={**who, "Origin": "https://evil.example"}
    )
    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" in answer.headers["vary"]


async def test_what_no_app_calls_is_closed_to_apps(open_to_apps: World) -> None:
    for path in ("/metrics", "/readyz"):
        answer = await open_to_apps.http.get(path, headers={"Origin": APP})
        assert "access-control-allow-origin" not in answer.headers


async def test_without_the_setting_there_is_nothing_of_it(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    answer = await world.http.get("/fhir/Patient/p1", headers={**rx1, "Origin": APP})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await options(world, "/fhir/Patient/p1")).status_code == 405


async def test_the_statement_says_which_it_is(world: World, open_to_apps: World) -> None:
    for node, cors in ((world, False), (open_to_apps, True)):
        statement = (await node.http.get("/fhir/metadata")).json()
        assert statement["rest"][0]["security"]["cors"] is cors


@pytest.mark.parametrize("origin", [APP, "http://localhost:3000", "*", f"{APP},http://[::1]:80", ""])
def test_an_origin_is_one(origin: str) -> None:
    assert Settings(cors_origins=origin).allowed_origins == tuple(filter(None, origin.split(",")))


@pytest.mark.parametrize(
    "origin",
    ["app.example", f"{APP}/", f"{APP}/path", "null", "https://*.example", "HTTPS://app.example", "file://"],
)
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ValidationError, match="not an origin"):
        Settings(cors_origins=origin)


@pytest.mark.parametrize("networks", ["10.0.0.0/8, ::1", "192.0.2.1", ""])
def test_networks_of_proxies_are_networks(networks: str) -> None:
    assert len(Settings(trusted_proxies=networks).proxy_networks) == len(
        list(filter(None, networks.split(",")))
    )


@pytest.mark.parametrize("networks", ["proxy.example", "10.0.0.1/8", "*", "10.0.0.0/8;::1"])
def test_what_is_no_network_is_refused_at_the_start(networks: str) -> None:
    with pytest.raises(ValidationError):
        Settings(trusted_proxies=networks)
