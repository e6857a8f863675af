"""POST /oauth/token (SMART Backend Services): errors are OAuth's own JSON, as RFC 6749 section 5.2 wants them."""

from urllib.parse import parse_qsl

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.api.caller import form_body
from app.errors import CandourError
from app.smart.issuer import OAuthError, TokenEndpoint

_HEADERS = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_LARGEST_FORM = 64 * 1024


def routes(tokens: TokenEndpoint) -> list[Route]:
    async def exchange(http: HttpRequest) -> Response:
        try:
            pairs = parse_qsl(await form_body(http, _LARGEST_FORM), keep_blank_values=True, max_num_fields=50)
            if len({name for name, _ in pairs}) != len(pairs):
                raise OAuthError("invalid_request", "A parameter is given twice.")
            response = await tokens.exchange(dict(pairs))
        except OAuthError as error:
            return _refused(error.error, error.description, error.status)
        except ValueError:
            return _refused("invalid_request", "The form cannot be read.", 400)
        except CandourError as error:
            code = "temporarily_unavailable" if error.status == 503 else "invalid_request"
            return _refused(code, str(error), error.status.value)
        return JSONResponse(response.as_json(), headers=_HEADERS)

    return [Route("/oauth/token", exchange, methods=["POST"])]


def _refused(error: str, description: str, status: int) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status, _HEADERS)
