"""R4's terminology operations over what is on board, and over the ValueSets and CodeSystems that are kept here.

At the type they are answered from the definitions alone; on an instance the resource is first read as any other is,
decided and recorded.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest

from app.api.endpoints import Handler, UseCases
from app.api.operations import sent_to_operation
from app.asked import Asked, Release
from app.fhir import terminology_operations as operations
from app.fhir.instants import instant
from app.fhir.terminology import ON_BOARD
from app.fhir.text import parse


async def expand(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    value_set = await _invoked_on(use, asked, http, "ValueSet")
    work = partial(operations.expand, timestamp=instant(datetime.now(UTC)), value_set=value_set)
    return await _answered(use, asked, http, "ValueSet", work)


async def validate_code(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    value_set = await _invoked_on(use, asked, http, "ValueSet")
    return await _answered(
        use, asked, http, "ValueSet", partial(operations.validate_code, value_set=value_set)
    )


async def validate_in_system(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    system = await _invoked_on(use, asked, http, "CodeSystem")
    return await _answered(
        use, asked, http, "CodeSystem", partial(operations.validate_in_system, code_system=system)
    )


async def subsumes(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    system = await _invoked_on(use, asked, http, "CodeSystem")
    return await _answered(use, asked, http, "CodeSystem", partial(operations.subsumes, code_system=system))


async def lookup(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    return await _answered(use, asked, http, "CodeSystem", operations.lookup)


OPERATIONS: Mapping[tuple[str, str, bool], Handler] = {
    ("ValueSet", "$expand", True): expand,
    ("ValueSet", "$validate-code", True): validate_code,
    ("CodeSystem", "$lookup", False): lookup,
    ("CodeSystem", "$validate-code", True): validate_in_system,
    ("CodeSystem", "$subsumes", True): subsumes,
}
"""By type, name, and whether it can be invoked on an instance too."""


async def _invoked_on(
    use: UseCases, asked: Asked, http: HttpRequest, resource_type: str
) -> dict[str, Any] | None:
    """The resource of ``/ValueSet/[id]/$expand``, read as it would be by itself; None at the type."""
    id = http.path_params.get("id")
    if id is None:
        return None
    release = await use.disclosure.read(asked, resource_type, id)
    return parse(release.body).value


async def _answered(use: UseCases, asked: Asked, http: HttpRequest, resource_type: str, work: Any) -> Release:
    given = await sent_to_operation(use, http)
    # Out of the event loop: a large value set takes a tenth of a second.
    text = await asyncio.to_thread(work, ON_BOARD, given)
    if asked.recorded:
        # By the reading of the resource that it was invoked on: one request leaves one entry.
        return Release(text, ())
    return await use.disclosure.of_nobody(asked, resource_type, text)
