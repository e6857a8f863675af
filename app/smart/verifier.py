"""From bearer token to Caller, at every request: verified once, then remembered until it expires."""

from hashlib import sha256

from app.errors import NotAuthenticated
from app.ports import Clock
from app.smart.access import caller_of, demands
from app.smart.jose import MAX_BYTES, verify
from app.smart.keys import KeyStore
from app.vocabulary import Caller


class Verifier:
    """Implements ``app.ports.TokenVerifier`` for this node's own access tokens.

    Remembers at most ``keep`` tokens by their SHA-256, so that it holds none. That the client is still active is
    asked of the database, in the statement that reads the records (``app.smart.clients.active_client``).
    """

    def __init__(
        self, keystore: KeyStore, issuer: str, audience: str, clock: Clock, *, keep: int = 10_000
    ) -> None:
        self._keystore = keystore
        self._demands = demands(issuer, audience)
        self._clock = clock
        self._keep = keep
        self._verified: dict[bytes, Caller] = {}

    def verify(self, bearer: str) -> Caller:
        """The caller whom the token proves. Raises NotAuthenticated, with one sentence that names the defect."""
        if len(bearer) > MAX_BYTES or not bearer.isascii():
            raise NotAuthenticated
        digest = sha256(bearer.encode()).digest()
        caller = self._verified.get(digest)
        if caller is None:
            caller = self._verify(bearer)
            self._remember(digest, caller)
        elif self._clock.now() >= caller.expires_at:
            del self._verified[digest]
            raise NotAuthenticated("The access token has expired; ask the token endpoint for a new one.")
        return caller

    def _verify(self, bearer: str) -> Caller:
        claims = verify(bearer, self._keystore.access_verifier, self._demands, now=self._clock.now())
        return caller_of(claims)

    def _remember(self, digest: bytes, caller: Caller) -> None:
        if len(self._verified) >= self._keep:
            # The oldest first: tokens live equally long, so it is the next to expire.
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = caller
