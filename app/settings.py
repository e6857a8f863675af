"""Every environment variable, typed. What security needs has no default that runs open."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.vocabulary import NHS_NUMBER_SYSTEM, OdsCode, ods_code

_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
"""As a browser writes it: lower case, no path, no trailing slash."""


def _listed(value: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in value.split(",") if one.strip())


class Settings(BaseSettings):
    """Read once, in the composition root. Each field is a row of README's table."""

    model_config = SettingsConfigDict(env_prefix="CANDOUR_", env_file=None, extra="ignore", frozen=True)

    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    """PostgreSQL 14 or newer; unset: an embedded PostgreSQL 18 under CANDOUR_HOME."""
    database_owner_url: str | None = Field(default=None, validation_alias="DATABASE_OWNER_URL")
    """Login that owns the tables and migrates; unset: DATABASE_URL. The service itself steps down to candour_app."""
    home: Path = Path(".candour")
    """Data directory: embedded database, keys, reject files."""
    host: str = "127.0.0.1"
    port: int = 8080
    base_url: str | None = None
    """FHIR base as callers reach it, e.g. https://node.example/fhir; unset: http://HOST:PORT/fhir."""
    node_name: str = "candour.localhost"
    """Names this node in audit logs, checkpoints and tokens; lower-case host name."""
    custodians: str = ""
    """ODS codes (comma-separated) whose records this node keeps."""
    nhs_number_system: str = NHS_NUMBER_SYSTEM
    """Identifier system by which one person is known to every custodian."""
    federation_deadline_seconds: float = Field(default=3.0, gt=0, le=30)
    max_body_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    max_waiting_entries: int = Field(default=4096, gt=0)
    """Requests that may wait for their audit entry; more are answered 503."""
    token_lifetime_seconds: int = Field(default=300, ge=30, le=300)
    database_pool_size: int = Field(default=12, ge=2, le=200)
    exports_at_once: int = Field(default=8, ge=1)
    """Bulk Data exports that may be in the making; more are answered 429."""
    exports_per_client: int = Field(default=2, ge=1)
    """Of these, one client's."""
    policy_file: Path | None = None
    """Default policy by purpose; unset: the one shipped with the service."""
    trusted_proxies: str = ""
    """Networks (CIDR, comma-separated) of the proxies whose forwarded headers are believed; empty: nobody's."""
    forwarded_headers: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    """What those proxies write: X-Forwarded-For, -Proto, -Host and -Prefix, or Forwarded (RFC 7239)."""
    cors_origins: str = ""
    """Origins (comma-separated) whose browser apps may call; ``*``: any; empty: none."""
    log_level: str = "INFO"

    @field_validator("base_url")
    @classmethod
    def _no_trailing_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else None

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for one in _listed(value):
            ip_network(one)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        for one in _listed(value):
            if one != "*" and not _ORIGIN.fullmatch(one):
                raise ValueError(
                    f"{one} is not an origin: scheme, host and port alone, e.g. https://app.example"
                )
        return value

    @property
    def proxy_networks(self) -> tuple[str, ...]:
        return _listed(self.trusted_proxies)

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        return _listed(self.cors_origins)

    @property
    def fhir_base(self) -> str:
        return self.base_url or f"http://{self.host}:{self.port}/fhir"

    @property
    def custodian_codes(self) -> tuple[OdsCode, ...]:
        return tuple(ods_code(code) for code in self.custodians.split(",") if code.strip())
