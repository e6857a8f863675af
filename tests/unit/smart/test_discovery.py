"""What the smart-configuration document promises is what works."""

from urllib.parse import urlsplit

from app.fhir.definitions import RESOURCE_TYPES
from app.smart.clients import ASSERTION_ALGORITHMS
from app.smart.discovery import smart_configuration
from app.smart.scopes import parse_scope, permits
from tests.unit.smart.forgery import NODE, TOKEN_URL

DOCUMENT = smart_configuration(
    issuer=NODE, token_url=TOKEN_URL, jwks_url="https://node.example/.well-known/jwks.json"
)


def test_every_member_that_smart_requires_is_there() -> None:
    required = {"token_endpoint", "grant_types_supported", "capabilities", "code_challenge_methods_supported"}
    assert required <= DOCUMENT.keys()
    assert DOCUMENT["code_challenge_methods_supported"] == ["S256"]


def test_only_what_works_is_promised() -> None:
    assert DOCUMENT["grant_types_supported"] == ["client_credentials"]
    assert DOCUMENT["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert DOCUMENT["token_endpoint_auth_signing_alg_values_supported"] == list(ASSERTION_ALGORITHMS)
    assert DOCUMENT["capabilities"] == ["client-confidential-asymmetric", "permission-v1", "permission-v2"]
    assert "authorization_endpoint" not in DOCUMENT


def test_all_addresses_are_absolute() -> None:
    for name in ("issuer", "jwks_uri", "token_endpoint"):
        assert urlsplit(str(DOCUMENT[name])).scheme == "https"


def test_every_scope_listed_can_be_granted_and_permits_something() -> None:
    listed = DOCUMENT["scopes_supported"]
    assert isinstance(listed, list)
    assert len(listed) == len(RESOURCE_TYPES) + 1
    for text in listed:
        scope = parse_scope(text)
        assert scope is not None
        reached = "Patient" if scope.resource_type == "*" else scope.resource_type
        assert permits((text,), reached, "r")
