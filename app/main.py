"""The composition root: builds every implementation, gives the ASGI application. Imported by nobody but the command."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from app.api import bundles, discovery, exporting, health, interactions, token
from app.api.caller import Door
from app.api.cors import CrossOrigin
from app.api.endpoints import UseCases
from app.api.errors import answer_failures
from app.api.forwarded import Proxies
from app.api.journal import Journal
from app.audit.event import NodeNames
from app.audit.log import AuditLog
from app.consent.decider import Decider
from app.consent.policy import Policy
from app.consent.register import ConsentRegister
from app.db import APPLICATION_ROLE, Database
from app.disclosure import Disclosure, Reading
from app.exchange import Exchange
from app.ports import Clock
from app.records.cursor import CursorSeal
from app.records.exports import Exports
from app.records.federation import Federation
from app.records.reading import Reader
from app.records.remote import Remotes
from app.records.results import ResultSets
from app.records.sources import Source, SourceRegister
from app.settings import Settings
from app.smart.attestation import passing_on
from app.smart.issuer import TokenEndpoint, assertion_for
from app.smart.keys import KeyStore
from app.smart.verifier import Verifier
from app.submission import Submission, Writing
from app.vocabulary import Caller

# One line a request and /metrics are ours (app/api/journal); the framework's own would tell the path, with its ids.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def collect_seldom() -> None:
    """What has been built by now lives as long as the process: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a running node is made of."""

    settings: Settings
    database: Database
    log: AuditLog
    keys: KeyStore
    use_cases: UseCases
    tokens: TokenEndpoint


@asynccontextmanager
async def services(
    settings: Settings, database_url: str, *, makes_exports: bool = True
) -> AsyncIterator[Services]:
    """Connects as the application's role and starts; everything is stopped in reverse order at the end.

    ``makes_exports``: takes its turns with the exports that wait to be made.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await Database.connect(
            database_url, role=APPLICATION_ROLE, size=settings.database_pool_size
        )
        stack.push_async_callback(database.close)
        keys = KeyStore(settings.home / "keys")
        log = await _audit_log(settings, database, clock, stack)
        federation = await _federation(settings, database, keys, clock, stack)
        node = _bound(settings, database, keys, log, federation, clock)
        if makes_exports:
            making = node.use_cases.disclosure.exporting.making
            making.start()
            stack.push_async_callback(making.stop)
        yield node


def create_app(node: Services) -> FastAPI:
    """The ASGI application over these services."""
    app = FastAPI(title="Candour", docs_url=None, redoc_url=None, openapi_url=None, telemetry=_NO_TELEMETRY)
    base, origins = node.settings.fhir_base, node.settings.allowed_origins
    # The records first: every request is matched against the routes in their order.
    app.router.routes[:0] = [
        *interactions.routes(node.use_cases),
        *bundles.routes(node.use_cases),
        *exporting.routes(node.use_cases),
        *token.routes(node.tokens),
        *health.routes(node.database, node.log),
        *discovery.routes(base, node.keys, started=datetime.now(UTC), cors=bool(origins)),
    ]
    answer_failures(app)
    if origins:
        app.add_middleware(CrossOrigin, origins=origins)
    app.add_middleware(Journal)
    return app


def _bound(
    settings: Settings,
    database: Database,
    keys: KeyStore,
    log: AuditLog,
    federation: Federation,
    clock: Clock,
) -> Services:
    base = settings.fhir_base
    consents = ConsentRegister(database)
    reading = Reading(
        database=database,
        reader=Reader(database),
        decider=Decider(consents, Policy.read(settings.policy_file)),
        audit=log,
        log=log,
        federation=federation,
        seal=CursorSeal(keys.cursor_secret),
        result_sets=ResultSets(database),
        exports=Exports(database, at_once=settings.exports_at_once, per_client=settings.exports_per_client),
        clock=clock,
        nhs_number_system=settings.nhs_number_system,
        custodians=settings.custodian_codes,
    )
    submission = Submission(Writing(database, log, consents, clock, settings.nhs_number_system, base))
    use_cases = UseCases(
        door=Door(
            Verifier(keys, base, base, clock),
            clock,
            base,
            Proxies.of(settings.proxy_networks, settings.forwarded_headers, base),
        ),
        disclosure=Disclosure(reading),
        submission=submission,
        exchange=Exchange(submission, reading),
        max_body_bytes=settings.max_body_bytes,
    )
    tokens = token_endpoint(settings, database, keys)
    return Services(settings, database, log, keys, use_cases, tokens)


def token_endpoint(settings: Settings, database: Database, keys: KeyStore) -> TokenEndpoint:
    """Issues tokens for this node: to clients over HTTP, and to the operator's command."""
    return TokenEndpoint(
        database,
        keys,
        issuer_url=settings.fhir_base,
        token_url=token_url(settings),
        audience=settings.fhir_base,
        lifetime=timedelta(seconds=settings.token_lifetime_seconds),
        clock=SystemClock(),
    )


def token_url(settings: Settings) -> str:
    return settings.fhir_base.rsplit("/", 1)[0] + "/oauth/token"


def node_names(settings: Settings) -> NodeNames:
    codes = settings.custodian_codes
    return NodeNames(
        site_ods=codes[0] if codes else settings.node_name,
        observer_system="urn:ietf:rfc:3986",
        observer_value=f"urn:candour:node:{settings.node_name}",
        base_url=settings.fhir_base,
        nhs_number_system=settings.nhs_number_system,
    )


async def _audit_log(settings: Settings, database: Database, clock: Clock, stack: AsyncExitStack) -> AuditLog:
    log = AuditLog(
        database,
        node_names(settings),
        origin=f"{settings.node_name}/audit",
        max_waiting=settings.max_waiting_entries,
        clock=clock,
    )
    await log.start()
    stack.push_async_callback(log.stop)
    return log


async def _federation(
    settings: Settings, database: Database, keys: KeyStore, clock: Clock, stack: AsyncExitStack
) -> Federation:
    register = SourceRegister(database)

    def assertion(source: Source, caller: Caller) -> str:
        return assertion_for(
            keys,
            source.client_id or settings.node_name,
            source.token_url or "",
            passing_on(caller),
            now=clock.now(),
        )

    federation = Federation(register, Remotes(register, assertion), settings.federation_deadline_seconds)
    stack.push_async_callback(federation.close)
    return federation
