"""The ``candour`` command."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from app import serving
from app.audit.verify import verify as verify_log
from app.db import Database, connect
from app.errors import CandourError, NotStarted
from app.main import token_endpoint
from app.opening import Opened, opened
from app.records.sources import SourceRegister
from app.settings import Settings
from app.smart.attestation import Attestation
from app.smart.clients import Client, ClientRegister
from app.smart.keys import KeyStore
from app.smart.oauth import OAuthError
from app.vocabulary import EmergencyReason, PurposeOfUse, ods_code

app = typer.Typer(
    name="candour",
    help="A federated shared care record that people can check for themselves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
clients = typer.Typer(help="The systems and nodes that may ask.", no_args_is_help=True)
sources = typer.Typer(help="The sources that are asked beside this node's own store.", no_args_is_help=True)
app.add_typer(clients, name="client")
app.add_typer(sources, name="source")
out, err = Console(), Console(stderr=True)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (CANDOUR_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (CANDOUR_PORT).")] = None,
) -> None:
    """Serve this node until Ctrl-C; with no DATABASE_URL, start and stop an embedded PostgreSQL too."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = Settings().model_copy(update=given)
    with opened(settings, serving=True) as database:
        err.print(
            f"candour serves {settings.fhir_base} (home {settings.home}); stop with Ctrl-C", soft_wrap=True
        )
        serving.run(settings, database)


@app.command()
def migrate() -> None:
    """Bring the database to this release's schema. Does nothing when it is there already."""
    with opened(Settings()):
        out.print("The schema is up to date.")


@app.command()
def load(
    paths: Annotated[
        list[Path], typer.Argument(help="Files or folders: Bundles, NDJSON, resources; .gz .bz2 .xz too.")
    ],
    custodian: Annotated[str, typer.Option(help="ODS code of the organisation whose records these are.")],
    rejects: Annotated[
        Path | None, typer.Option(help="Where what cannot be loaded goes; default: CANDOUR_HOME/rejects.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="How many processes load; default: one for each processor."),
    ] = None,
) -> None:
    """Load records into this node's store. May be stopped and repeated: what is there already is left alone."""
    from app import loading

    settings = Settings()
    serving.configure_log(settings.log_level)
    with opened(settings) as database:
        summary = loading.load(
            settings,
            database,
            paths,
            ods_code(custodian),
            rejects or settings.home / "rejects",
            processes=processes,
        )
    out.print(summary.sentence)
    if summary.rejected:
        raise typer.Exit(1)


@app.command()
def verify() -> None:
    """Re-derive the whole audit log and name the first entry that is not as it was written."""
    with opened(Settings()) as database:
        verdict = asyncio.run(_verified(database))
    if verdict.holds:
        print(f"The audit log is whole: {verdict.size} entries, root {verdict.root.hex()}")
        return
    where = "" if verdict.first_bad is None else f"first bad index {verdict.first_bad}: "
    err.print(f"The audit log is NOT whole: {where}{verdict.reason}")
    raise typer.Exit(1)


@app.command()
def token(
    client: Annotated[str, typer.Option(help="Client id, as registered with `candour client add`.")],
    purpose: Annotated[PurposeOfUse, typer.Option(help="Purpose of use.")] = PurposeOfUse.TREAT,
    scope: Annotated[
        str | None, typer.Option(help="Scopes, separated by spaces; default: all the client has.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Emergency access: why, in words.")] = None,
    reason_code: Annotated[str, typer.Option(help="Emergency access: coded reason.")] = "ETREAT",
    patient: Annotated[
        str | None, typer.Option(help="Emergency access: NHS number of the one person.")
    ] = None,
) -> None:
    """Print a short-lived access token for trying things by hand."""
    settings = Settings()
    emergency = None
    if reason is not None or patient is not None:
        if not reason or not patient:
            raise typer.BadParameter("emergency access needs both --reason and --patient")
        emergency = EmergencyReason(
            f"{settings.nhs_number_system}|{patient.replace(' ', '')}", reason_code, reason
        )
    with opened(settings) as database:
        print(asyncio.run(_minted(settings, database, client, purpose, scope, emergency)))


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Synthea people to use instead: a folder with uk-identities.csv.")
    ] = None,
    people: Annotated[int, typer.Option(help="How many people to make up.", min=1, max=10_000)] = 60,
    port: Annotated[int, typer.Option(help="Port of the first node; the second has the next.")] = 8080,
) -> None:
    """Start two nodes with made-up people, one the source of the other, and print what to try."""
    from app.demo.run import demo as run_demo

    run_demo(Settings().home, people=people, port=port, data=data)


@app.command()
def health(url: Annotated[str, typer.Option(help="Where the service listens.")] = "") -> None:
    """Exit 0 when the service on this machine can answer safely, 1 otherwise."""
    import urllib.request

    settings = Settings()
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # read, not bound
    try:
        with urllib.request.urlopen(url or f"http://{host}:{settings.port}/readyz", timeout=3) as response:  # noqa: S310
            raise typer.Exit(0 if response.status == 200 else 1)
    except OSError as error:
        err.print(f"not ready: {error}")
        raise typer.Exit(1) from None


@clients.command("add")
def add_client(
    client_id: str,
    organisation: Annotated[str, typer.Option(help="ODS code on whose behalf it asks.")],
    jwks: Annotated[Path | None, typer.Option(help="File with its public keys (JWKS).")] = None,
    scope: Annotated[str, typer.Option(help="Scopes it may be granted.")] = "system/*.rs",
    purpose: Annotated[
        list[PurposeOfUse] | None, typer.Option(help="Purposes it may state; repeat for more.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name shown to citizens in their access log.")] = "",
    organisation_name: Annotated[str, typer.Option(help="Name of its organisation.")] = "",
    node: Annotated[
        bool, typer.Option("--node", help="Another Candour node, which passes on its callers' questions.")
    ] = False,
    speaks_for: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a node: ODS code of another organisation that asks through it; repeat for more."
        ),
    ] = None,
    emergency: Annotated[
        bool, typer.Option("--emergency", help="May ask for emergency access (ETREAT, BTG).")
    ] = False,
) -> None:
    """Register a client, or change it."""
    keys = json.loads(jwks.read_text()) if jwks else None

    async def register(database: Database) -> None:
        new = Client(
            client_id,
            name or client_id,
            "node" if node else "system",
            ods_code(organisation),
            keys or {"keys": []},
            tuple(scope.split()),
            tuple(purpose or [PurposeOfUse.TREAT]),
            organisation_name,
            emergency=emergency,
            speaks_for=tuple(ods_code(code) for code in speaks_for or ()),
        )
        await ClientRegister(database).add(new)

    _administer(register)
    out.print(f"Client {client_id} may ask for {organisation.upper()}.")


@clients.command("list")
def list_clients() -> None:
    """Show the registered clients."""

    async def show(database: Database) -> None:
        for client in await ClientRegister(database).list():
            state = "" if client.active else " (deactivated)"
            out.print(
                f"{client.client_id}  {client.kind}  {client.organisation}  {' '.join(client.scopes)}{state}"
            )

    _administer(show)


@clients.command("deactivate")
def deactivate_client(client_id: str) -> None:
    """Stop a client: its tokens are refused from the next request on."""
    _administer(lambda database: ClientRegister(database).deactivate(client_id))
    out.print(f"Client {client_id} is stopped.")


@sources.command("add")
def add_source(
    ods: str,
    url: Annotated[str, typer.Argument(help="FHIR base of the source.")],
    kind: Annotated[str, typer.Option(help="candour (another node) or fhir (any R4 server).")] = "candour",
    name: Annotated[str, typer.Option(help="Name shown in answers.")] = "",
    token_endpoint: Annotated[
        str | None, typer.Option(help="Its token endpoint; default for candour: beside its base.")
    ] = None,
    client_id: Annotated[
        str | None, typer.Option(help="Our client id there; default: CANDOUR_NODE_NAME.")
    ] = None,
) -> None:
    """Register a source that may hold something about our patients, or change it."""
    settings = Settings()
    endpoint = token_endpoint or (
        url.rstrip("/").rsplit("/", 1)[0] + "/oauth/token" if kind == "candour" else None
    )

    async def register(database: Database) -> None:
        await SourceRegister(database).add(
            ods_code(ods),
            url,
            kind=kind,
            name=name,
            token_url=endpoint,
            client_id=client_id or settings.node_name,
        )

    _administer(register)
    out.print(f"Source {ods.upper()} is asked at {url}.")


@sources.command("list")
def list_sources() -> None:
    """Show the registered sources."""

    async def show(database: Database) -> None:
        for source in await SourceRegister(database).active():
            state = " (quarantined: it answered for another patient)" if source.quarantined else ""
            out.print(f"{source.ods_code}  {source.kind}  {source.base_url}{state}")

    _administer(show)


@sources.command("clear")
def clear_source(ods: str) -> None:
    """End a source's quarantine, after a person has found out why it answered for another patient."""
    _administer(lambda database: SourceRegister(database).clear(ods_code(ods)))
    out.print(f"Source {ods.upper()} is asked again.")


@app.command()
def keys() -> None:
    """Print this node's public keys (JWKS), to register it as a client elsewhere."""
    print(json.dumps(KeyStore(Settings().home / "keys").jwks()))


def _administer(work: Callable[[Database], Awaitable[None]]) -> None:
    """Runs an administrator's change as the owner of the tables."""

    async def connected(url: str) -> None:
        database = await Database.connect(url, size=2)
        try:
            await work(database)
        finally:
            await database.close()

    with opened(Settings()) as database:
        asyncio.run(connected(database.owner_url))


async def _verified(database: Opened) -> Any:
    connection = await connect(database.owner_url)
    try:
        return await verify_log(connection)
    finally:
        await connection.close()


async def _minted(
    settings: Settings,
    opened_database: Opened,
    client: str,
    purpose: PurposeOfUse,
    scope: str | None,
    emergency: EmergencyReason | None,
) -> str:
    database = await Database.connect(opened_database.owner_url, size=2)
    try:
        tokens = token_endpoint(settings, database, KeyStore(settings.home / "keys"))
        attestation = Attestation(purpose=purpose, emergency=emergency)
        return (await tokens.mint(client, attestation, scope=scope)).access_token
    finally:
        await database.close()


def _end_cleanly() -> None:
    """SIGTERM ends as Ctrl-C does, so that a PostgreSQL we started is stopped; both wherever we were started from."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def main() -> None:
    """Runs the command; what was expected to go wrong is a sentence, not a traceback."""
    _end_cleanly()
    try:
        app()
    except (NotStarted, CandourError, OAuthError, ValueError, OSError) as error:
        err.print(f"candour: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
