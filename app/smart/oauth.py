"""What the token endpoint reads and answers: RFC 6749's form, token response and errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qsl

NO_STORE: Mapping[str, str] = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Headers of every answer of the token endpoint, errors too (RFC 6749, 5.1)."""

Error = Literal[
    "invalid_request",
    "invalid_client",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
]

_MOST_PARAMETERS = 50


class OAuthError(Exception):
    """A refusal in RFC 6749's words (5.2), answered as JSON and not as an OperationOutcome.

    ``description`` is one sentence about one defect, in that section's characters: ASCII without ``"`` and ``\\``.
    """

    def __init__(self, error: Error, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = (
            description.encode("ascii", "replace").decode().replace('"', "'").replace("\\", "/")
        )

    @property
    def status(self) -> HTTPStatus:
        return HTTPStatus.UNAUTHORIZED if self.error == "invalid_client" else HTTPStatus.BAD_REQUEST

    def body(self) -> dict[str, str]:
        return {"error": self.error, "error_description": self.description}


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A new access token, its life in seconds and the scopes granted (RFC 6749, 5.1)."""

    access_token: str
    expires_in: int
    scope: str

    def body(self) -> dict[str, str | int]:
        return {
            "access_token": self.access_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "scope": self.scope,
        }


def read_form(body: str) -> dict[str, str]:
    """The parameters of an ``application/x-www-form-urlencoded`` body, each at most once (RFC 6749, 3.2).

    Raises OAuthError.
    """
    try:
        pairs = parse_qsl(
            body,
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError as error:
        raise OAuthError("invalid_request", "The body is not a form.") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "A parameter occurs twice.")
    return {name: value for name, value in form.items() if value}
