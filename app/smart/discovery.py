"""The smart-configuration document: what this node's authorisation offers today, and nothing else.

SMART App Launch 2.2, "Authorization and conformance metadata"; pure.
"""

from collections.abc import Iterable

from app.fhir.definitions import RESOURCE_TYPES
from app.smart.clients import ASSERTION_ALGORITHMS

_READ_ONLY = frozenset({"AuditEvent"})
"""Written by the service alone."""


def smart_configuration(
    *, issuer: str, token_url: str, jwks_url: str, resource_types: Iterable[str] = RESOURCE_TYPES
) -> dict[str, object]:
    """The document, with absolute URLs. ``issuer`` is the FHIR base."""
    return {
        "issuer": issuer,
        "jwks_uri": jwks_url,
        "token_endpoint": token_url,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
        "scopes_supported": _scopes(resource_types),
        # Required even of a server without an authorization endpoint, and then of no effect.
        "code_challenge_methods_supported": ["S256"],
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }


def _scopes(resource_types: Iterable[str]) -> list[str]:
    """``system/*`` does not include AuditEvent and Consent, which are therefore listed like any other."""
    return [
        "system/*.cruds",
        *(f"system/{name}.{'rs' if name in _READ_ONLY else 'cruds'}" for name in sorted(resource_types)),
    ]
