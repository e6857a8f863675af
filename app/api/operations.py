"""Operations on what is kept here: ``$everything`` of a patient and of an encounter (R4 operations, 3.2.0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request as HttpRequest

from app.api.caller import resource_body
from app.api.endpoints import Handler, UseCases, pairs_of
from app.asked import Asked, Release
from app.audit.entry import Interaction
from app.errors import BadRequest
from app.fhir.extent import OF_A_PATIENT, OF_AN_ENCOUNTER, read_extent
from app.fhir.text import parse


async def everything(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    extent = read_extent(await sent_to_operation(use, http), OF_A_PATIENT)
    return await use.disclosure.everything(asked, http.path_params["id"], extent)


async def everything_of_encounter(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    extent = read_extent(await sent_to_operation(use, http), OF_AN_ENCOUNTER)
    return await use.disclosure.everything_of_encounter(asked, http.path_params["id"], extent)


OPERATIONS: Sequence[tuple[str, Interaction, Handler]] = (
    ("/fhir/Patient/{id:r4id}/$everything", Interaction.EVERYTHING, everything),
    ("/fhir/Encounter/{id:r4id}/$everything", Interaction.EVERYTHING, everything_of_encounter),
)
"""By address; each is asked by GET and by POST."""


async def sent_to_operation(use: UseCases, http: HttpRequest) -> list[tuple[str, str]] | dict[str, Any]:
    """The parameters of the address, or a Parameters resource."""
    if http.method != "POST":
        pairs = pairs_of(http.scope["query_string"].decode("latin-1"))
        return [pair for pair in pairs if pair[0] not in ("_format", "_pretty")]
    body = parse(await resource_body(http, use.max_body_bytes)).value
    if body.get("resourceType") != "Parameters":
        raise BadRequest("An operation is sent a Parameters resource.", expression="Parameters")
    return body
