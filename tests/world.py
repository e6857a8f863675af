"""A whole node for a test: real PostgreSQL, real tokens, the application that production runs."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import orjson

from app.db import Database
from app.main import Services, create_app, services
from app.settings import Settings
from app.smart.attestation import Attestation
from app.smart.clients import Client, ClientRegister
from app.smart.keys import KeyStore
from app.vocabulary import EmergencyReason, OdsCode, PurposeOfUse, ods_code

NHS = "https://fhir.nhs.uk/Id/nhs-number"
MARGARET, DAVID = "9990000018", "9990000026"


class World:
    """A node, its callers, and what tests say to it."""

    def __init__(self, node: Services, owner: Database, http: httpx.AsyncClient) -> None:
        self.node, self.owner, self.http = node, owner, http
        self.base = node.settings.fhir_base

    async def client(self, client_id: str, organisation: str, **options: Any) -> None:
        """Registers a client; by default it may do everything for its organisation."""
        new = Client(
            client_id,
            client_id,
            options.pop("kind", "system"),
            ods_code(organisation),
            options.pop("jwks", {"keys": []}),
            options.pop("scopes", ("system/*.cruds", "system/Consent.cruds", "system/AuditEvent.rs")),
            options.pop("purposes", tuple(PurposeOfUse)),
            f"{organisation} Trust",
            emergency=options.pop("emergency", True),
        )
        await ClientRegister(self.owner).add(new)

    async def bearer(
        self,
        client_id: str,
        *,
        purpose: PurposeOfUse = PurposeOfUse.TREAT,
        scope: str | None = None,
        emergency_for: str | None = None,
    ) -> dict[str, str]:
        reason = (
            EmergencyReason(f"{NHS}|{emergency_for}", "ETREAT", "unconscious in A&E")
            if emergency_for
            else None
        )
        attestation = Attestation(purpose=purpose, emergency=reason)
        granted = await self.node.tokens.mint(client_id, attestation, scope=scope)
        return {"Authorization": f"Bearer {granted.access_token}"}

    async def get(self, path: str, who: dict[str, str], **headers: str) -> httpx.Response:
        return await self.http.get(f"/fhir/{path}", headers={**who, **_named(headers)})

    async def post(self, path: str, body: Any, who: dict[str, str], **headers: str) -> httpx.Response:
        return await self.http.post(
            f"/fhir/{path}", content=_text(body), headers={**_JSON, **who, **_named(headers)}
        )

    async def put(self, path: str, body: Any, who: dict[str, str], **headers: str) -> httpx.Response:
        return await self.http.put(
            f"/fhir/{path}", content=_text(body), headers={**_JSON, **who, **_named(headers)}
        )

    async def delete(self, path: str, who: dict[str, str], **headers: str) -> httpx.Response:
        return await self.http.delete(f"/fhir/{path}", headers={**who, **_named(headers)})

    async def patient(
        self, who: dict[str, str], id: str, nhs_number: str | None = MARGARET, **more: Any
    ) -> str:
        """A custodian's own Patient; gives its id."""
        made = await self.put(f"Patient/{id}", a_patient(id, nhs_number, **more), who)
        assert made.status_code in (200, 201), made.text
        return id

    async def audit(self) -> list[dict[str, Any]]:
        """Every AuditEvent in the log, oldest first."""
        async with self.owner.connection() as connection:
            rows = await connection.fetch("SELECT entry_id FROM audit_leaf ORDER BY idx")
        events = [await self.node.log.event(row["entry_id"]) for row in rows]
        return [orjson.loads(one.body) for one in events if one is not None and one.body is not None]


_JSON = {"Content-Type": "application/fhir+json"}


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _text(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


def a_patient(id: str, nhs_number: str | None = MARGARET, **more: Any) -> dict[str, Any]:
    identifiers = [{"system": NHS, "value": nhs_number}] if nhs_number else []
    return {
        "resourceType": "Patient",
        "id": id,
        **({"identifier": identifiers} if identifiers else {}),
        "name": [{"family": "Okafor", "given": ["Margaret"]}],
        "gender": "female",
        "birthDate": "1948-03-02",
        **more,
    }


def an_observation(patient: str, code: str = "8867-4", value: str = "72", **more: Any) -> str:
    """An Observation's text; ``value`` is put in as written, so that digits can be checked."""
    body = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2026-03-01T10:00:00Z",
        **more,
    }
    text = orjson.dumps(body).decode()
    quantity = f'"valueQuantity":{{"value":{value},"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}'
    return f"{text[:-1]},{quantity}}}"


def a_consent(patient: str, **provision: Any) -> dict[str, Any]:
    """IHE PCF's shape."""
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
            ]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2026-01-01",
        "performer": [{"reference": f"Patient/{patient}"}],
        "policy": [{"uri": "urn:candour:policy:sharing"}],
        "provision": provision,
    }


def denied_to(ods: OdsCode | str) -> dict[str, Any]:
    """A provision that keeps everything from one organisation."""
    return {
        "type": "deny",
        "actor": [
            {
                "role": {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
                            "code": "IRCP",
                        }
                    ]
                },
                "reference": {
                    "identifier": {
                        "system": "https://fhir.nhs.uk/Id/ods-organization-code",
                        "value": str(ods),
                    }
                },
            }
        ],
    }


@cache
def _keys() -> TemporaryDirectory[str]:
    made = TemporaryDirectory(prefix="candour-keys-")
    KeyStore(Path(made.name))
    return made


@asynccontextmanager
async def a_world(url: str, owner: Database, home: Path, **settings: Any) -> AsyncIterator[World]:
    """A node over the database at ``url``, reached without a network."""
    chosen = Settings(home=home, custodians="RX1,RX2", **settings)
    # Made once for all worlds: a key takes longer to make than most tests take to run.
    shutil.copytree(_keys().name, home / "keys", dirs_exist_ok=True)
    async with services(chosen, url) as node:
        transport = httpx.ASGITransport(app=create_app(node), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://node.test") as http:
            yield World(node, owner, http)
