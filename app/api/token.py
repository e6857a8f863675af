"""POST /oauth/token (SMART Backend Services): errors are OAuth's own JSON, as RFC 6749 section 5.2 wants them."""

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.api.caller import form_body
from app.errors import CandourError
from app.smart.issuer import TokenEndpoint
from app.smart.oauth import NO_STORE, OAuthError, read_form

_LARGEST_FORM = 64 * 1024


def routes(tokens: TokenEndpoint) -> list[Route]:
    async def exchange(http: HttpRequest) -> Response:
        try:
            granted = await tokens.exchange(read_form(await form_body(http, _LARGEST_FORM)))
        except OAuthError as error:
            return JSONResponse(error.body(), error.status.value, NO_STORE)
        except CandourError as error:
            code = "temporarily_unavailable" if error.status == 503 else "invalid_request"
            return JSONResponse(
                {"error": code, "error_description": str(error)}, error.status.value, NO_STORE
            )
        return JSONResponse(granted.body(), headers=NO_STORE)

    return [Route("/oauth/token", exchange, methods=["POST"])]
