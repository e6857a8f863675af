"""The token endpoint: SMART Backend Services (2.2), ``client_credentials`` with ``private_key_jwt``.

Framework-free: a form in, a token response or an OAuthError out. Every refusal names its one defect.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from app.db import Database
from app.errors import NotAuthenticated
from app.ports import Clock
from app.smart import access
from app.smart.attestation import Attestation, read_attestation
from app.smart.clients import Client, ClientRegister
from app.smart.jose import Demands, claimed_issuer, sign, verify
from app.smart.keys import KeyStore
from app.smart.oauth import OAuthError, TokenResponse
from app.smart.scopes import Scope, covers, parse_scope
from app.vocabulary import Caller, PurposeOfUse

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_LONGEST_ASSERTION = timedelta(minutes=5)
_OWN_ASSERTION = timedelta(seconds=60)
_LEEWAY = timedelta(seconds=10)
_SWEEP_EVERY = timedelta(minutes=1)
_LONGEST_SCOPE = 4000  # a longer list does not fit the header that carries the token
_PRINTABLE_SCOPE = re.compile(r"[A-Za-z0-9/*.?=&|:_,-]{1,100}")


class TokenEndpoint:
    """Exchanges a client's assertion for an access token to this node's FHIR base."""

    def __init__(
        self,
        database: Database,
        keystore: KeyStore,
        *,
        issuer_url: str,
        token_url: str,
        audience: str,
        lifetime: timedelta,
        clock: Clock,
    ) -> None:
        if not timedelta(0) < lifetime <= access.LONGEST_LIFETIME:
            raise ValueError("an access token lives for 1 to 300 seconds")
        self._clients = ClientRegister(database)
        self._keystore = keystore
        self._issuer_url = issuer_url
        self._token_url = token_url
        self._audience = audience
        self._lifetime = lifetime
        self._clock = clock
        self._swept_at = datetime.min.replace(tzinfo=UTC)

    async def exchange(self, form: Mapping[str, str]) -> TokenResponse:
        """A token for the client that the form's assertion proves.

        Raises OAuthError, or DatabaseUnavailable.
        """
        if "grant_type" not in form:
            raise OAuthError("invalid_request", "'grant_type' is missing.")
        if form["grant_type"] != "client_credentials":
            raise OAuthError("unsupported_grant_type", "Only the grant type 'client_credentials' is offered.")
        client, claims = await self._authenticate(form)
        return self._grant(client, form.get("scope", ""), read_attestation(claims, form))

    async def mint(
        self, client_id: str, attestation: Attestation, *, scope: str | None = None
    ) -> TokenResponse:
        """A token for a registered client without its assertion, on the operator's own authority.

        ``scope`` None asks for all that is registered. Raises OAuthError exactly as ``exchange`` would.
        """
        client = await self._registered(client_id)
        return self._grant(client, " ".join(client.scopes) if scope is None else scope, attestation)

    def issue(self, caller: Caller) -> str:
        """The signed token of ``caller``, whose ``token_id``, ``issuer`` and ``expires_at`` are set."""
        claims = access.claims_of(caller, self._audience, issued_at=self._clock.now())
        return sign(claims, self._keystore.access_key, typ=access.TYPE)

    async def _authenticate(self, form: Mapping[str, str]) -> tuple[Client, Mapping[str, Any]]:
        """RFC 7523, 3, and SMART's rules for the assertion, of which each may be used once."""
        assertion = form.get("client_assertion", "")
        if form.get("client_assertion_type") != ASSERTION_TYPE or not assertion:
            raise OAuthError(
                "invalid_client",
                f"Authenticate by private_key_jwt: 'client_assertion_type' {ASSERTION_TYPE} and 'client_assertion'.",
            )
        try:
            client = await self._registered(claimed_issuer(assertion))
            claims = verify(assertion, client.key, self._demands(client.client_id), now=self._clock.now())
        except NotAuthenticated as error:
            raise OAuthError("invalid_client", f"client_assertion: {error}") from error
        if claims["sub"] != client.client_id:
            raise OAuthError("invalid_client", "client_assertion: 'sub' must be the client id, as 'iss' is.")
        if form.get("client_id", client.client_id) != client.client_id:
            raise OAuthError("invalid_client", "'client_id' is not the client of the assertion.")
        await self._use_once(client.client_id, claims)
        return client, claims

    async def _registered(self, client_id: str) -> Client:
        client = await self._clients.get(client_id)
        if client is None or not client.active:
            raise OAuthError("invalid_client", "No active client with this id is registered here.")
        return client

    def _demands(self, client_id: str) -> Demands:
        """``iat`` is not among SMART's claims; ``typ`` is not sent by every client that works elsewhere.

        The audience is the token URL (SMART) or the issuer (rfc7523bis), as one string: an array lets one
        assertion serve two servers.
        """
        return Demands(
            types=("jwt", "client-authentication+jwt", ""),
            audiences=(self._token_url, self._issuer_url),
            max_lifetime=_LONGEST_ASSERTION,
            leeway=_LEEWAY,
            issuer=client_id,
            required=("iss", "sub", "aud", "exp", "jti"),
        )

    async def _use_once(self, client_id: str, claims: Mapping[str, Any]) -> None:
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        if not await self._clients.consume(client_id, claims["jti"], expires_at):
            raise OAuthError(
                "invalid_client", "client_assertion: 'jti' was used before; every assertion needs a new one."
            )
        now = self._clock.now()
        if now - self._swept_at >= _SWEEP_EVERY:
            self._swept_at = now
            # Another process's clock may lag: what has only just expired here is kept for it.
            await self._clients.forget_expired(now - _SWEEP_EVERY)

    def _grant(self, client: Client, scope: str, attestation: Attestation) -> TokenResponse:
        now = self._clock.now()
        caller = Caller(
            subject=client.client_id,
            client_id=client.client_id,
            organisation=client.organisation,
            organisation_name=client.organisation_name,
            purpose=_purpose(client, attestation),
            scopes=_scopes(client, scope),
            token_id=uuid4().hex,
            issuer=self._issuer_url,
            expires_at=datetime.fromtimestamp(int(now.timestamp()), UTC) + self._lifetime,
            name=attestation.name,
            roles=_roles(client, attestation),
            practitioner=attestation.practitioner,
            emergency=attestation.emergency,
        )
        caller = _passed_on(client, caller, attestation)
        return TokenResponse(self.issue(caller), int(self._lifetime.total_seconds()), " ".join(caller.scopes))


def assertion_for(
    keystore: KeyStore, client_id: str, token_url: str, extensions: Mapping[str, Any], *, now: datetime
) -> str:
    """This node's own client assertion for another's token endpoint, good for one minute."""
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": token_url,
        "iat": int(now.timestamp()),
        "exp": int((now + _OWN_ASSERTION).timestamp()),
        "jti": uuid4().hex,
        "extensions": dict(extensions),
    }
    return sign(claims, keystore.assertion_key, typ="JWT")


def _scopes(client: Client, asked: str) -> tuple[str, ...]:
    """What was asked for, in the words in which it was asked for; never less without a word."""
    wanted = tuple(dict.fromkeys(text for text in asked.split(" ") if text))
    if not wanted:
        raise OAuthError(
            "invalid_scope", "'scope' is missing; name what is needed, as in system/Observation.rs."
        )
    if len(asked) > _LONGEST_SCOPE:
        raise OAuthError(
            "invalid_scope", "'scope' is too long for a token; ask for system/* or for fewer types."
        )
    registered = client.granted_at_most
    for text in wanted:
        _check_scope(text, registered)
    return wanted


def _check_scope(text: str, registered: Sequence[Scope]) -> None:
    named = text if _PRINTABLE_SCOPE.fullmatch(text) else "A scope"
    scope = parse_scope(text)
    if scope is None:
        raise OAuthError("invalid_scope", f"{named} is not a scope of SMART 2.2 for a type of FHIR R4.")
    if scope.context != "system":
        raise OAuthError("invalid_scope", f"{named} needs a user; only system/ scopes are granted here.")
    if scope.filters:
        raise OAuthError("invalid_scope", f"{named} has a filter, which is not supported yet.")
    if not covers(registered, scope):
        raise OAuthError("invalid_scope", f"{named} is more than the client is registered for.")


def _purpose(client: Client, attestation: Attestation) -> PurposeOfUse:
    """Exactly one, of those registered; an emergency needs its privilege, a reason and one person."""
    purpose = attestation.purpose
    if purpose is None:
        if len(client.purposes) != 1:
            raise OAuthError("invalid_request", "'purpose_of_use' is missing, and the client has several.")
        purpose = client.purposes[0]
    if purpose not in client.purposes or (purpose.is_emergency and not client.emergency):
        raise OAuthError(
            "unauthorized_client", f"The client is not registered for the purpose of use {purpose}."
        )
    if purpose.is_emergency != (attestation.emergency is not None):
        raise OAuthError(
            "invalid_request",
            "ETREAT and BTG, and only they, need 'emergency_reason_code', 'emergency_reason_text' and 'patient'.",
        )
    return purpose


def _roles(client: Client, attestation: Attestation) -> tuple[str, ...]:
    """A system attests its users' roles, if registered for some, within those; a node passes on any."""
    if attestation.on_behalf_of is None and client.roles and not set(attestation.roles) <= set(client.roles):
        raise OAuthError("unauthorized_client", "'subject_role' holds a role that the client may not attest.")
    return attestation.roles


def _passed_on(client: Client, caller: Caller, attestation: Attestation) -> Caller:
    """The original caller, with the node as the actor who asks for them (RFC 8693, 4.1)."""
    original = attestation.on_behalf_of
    if original is None:
        return caller
    if client.kind != "node":
        raise OAuthError("unauthorized_client", "Only a node may pass on the question of another.")
    if original.organisation not in (client.organisation, *client.speaks_for):
        raise OAuthError(
            "unauthorized_client",
            f"The node is not registered here to speak for {original.organisation}.",
        )
    return replace(
        caller,
        subject=original.subject,
        organisation=original.organisation,
        organisation_name=original.organisation_name,
        via=client.client_id,
    )
