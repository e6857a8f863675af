"""What an integrator looks at first, without a token: /metadata, smart-configuration and the keys."""

from datetime import datetime
from functools import cache
from importlib.metadata import version

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.api.outcome import refusal
from app.api.representation import wanted
from app.errors import NotAcceptable
from app.fhir.capability import capability_statement
from app.fhir.instants import instant
from app.fhir.terminology_capability import terminology_capabilities
from app.smart.discovery import smart_configuration
from app.smart.keys import KeyStore

_ANY_ORIGIN = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300"}


def routes(base_url: str, keys: KeyStore, *, started: datetime, cors: bool = False) -> list[Route]:
    token_url = base_url.rsplit("/", 1)[0] + "/oauth/token"
    jwks_url = base_url.rsplit("/", 1)[0] + "/.well-known/jwks.json"
    statement = capability_statement(
        base_url, token_url, date=instant(started), version=version("candour"), cors=cors
    )
    configuration = smart_configuration(issuer=base_url, token_url=token_url, jwks_url=jwks_url)

    @cache
    def terminology() -> str:
        return terminology_capabilities(base_url, date=instant(started), version=version("candour"))

    async def metadata(http: HttpRequest) -> Response:
        # R4 http, 3.1.0.14: full and normative are the CapabilityStatement.
        text = terminology() if http.query_params.get("mode") == "terminology" else statement
        try:
            return wanted(http.scope, dict(http.scope["headers"])).response(text, 200, _ANY_ORIGIN)
        except NotAcceptable as error:
            return refusal(error)

    async def smart(http: HttpRequest) -> Response:
        return JSONResponse(configuration, headers=_ANY_ORIGIN)

    async def public_keys(http: HttpRequest) -> Response:
        return JSONResponse(keys.jwks(), headers=_ANY_ORIGIN)

    return [
        Route("/fhir/metadata", metadata),
        Route("/fhir/.well-known/smart-configuration", smart),
        Route("/.well-known/jwks.json", public_keys),
    ]
