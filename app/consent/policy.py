"""The default policy by purpose, in one readable file: what counts where the patient has not spoken."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from app.errors import NotStarted
from app.fhir.sensitivity import LEVELS, RESTRICTED, SENSITIVITIES
from app.vocabulary import PurposeOfUse

SHIPPED: Final = Path(__file__).parent / "default_policy.toml"

_TOP: Final = {"uri", "version", "purpose", "emergency"}
_RULE: Final = {"permit", "restricted_roles", "types"}


@dataclass(frozen=True, slots=True)
class Default:
    """What a purpose sees of a patient who has not spoken."""

    permit_up_to: int
    """Confidentiality; 0 permits nothing."""
    restricted_roles: frozenset[str] = frozenset()
    """Roles that see R as well."""
    types: frozenset[str] | None = None
    """Only these resource types; None: all."""

    def level_for(self, roles: frozenset[str]) -> int:
        if self.permit_up_to and self.restricted_roles & roles:
            return max(self.permit_up_to, RESTRICTED)
        return self.permit_up_to


NOTHING: Final = Default(0)


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of the default policy. A purpose that it does not name is denied."""

    uri: str
    version: str
    """The version it declares and the first 12 hex digits of its text's SHA-256."""
    defaults: Mapping[PurposeOfUse, Default]
    never: frozenset[str] = field(default=frozenset())
    """Sensitivities that emergency access does not open: there, what holds for treatment holds."""

    @property
    def reference(self) -> str:
        return f"{self.uri}|{self.version}"

    def default_for(self, purpose: PurposeOfUse) -> Default:
        return self.defaults.get(purpose, NOTHING)

    @classmethod
    def read(cls, path: Path | None = None) -> "Policy":
        """The policy in a file; the shipped one without. Raises NotStarted when it is missing, broken or empty."""
        chosen = path or SHIPPED
        try:
            text = chosen.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotStarted(f"the policy file {chosen} cannot be read: {error}") from error
        try:
            return cls.parse(text)
        except (ValueError, tomllib.TOMLDecodeError) as error:
            raise NotStarted(f"the policy file {chosen} cannot be used: {error}") from error

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """Raises ValueError with the reason; a key that is not understood is one."""
        document = tomllib.loads(text)
        _only(document, _TOP, "the file")
        purposes = _table(document, "purpose")
        if not purposes:
            raise ValueError("it has no [purpose.…] table: an empty policy is refused")
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return cls(
            uri=_text(document, "uri"),
            version=f"{_text(document, 'version')}+{digest}",
            defaults={_purpose(name): _default(name, rule) for name, rule in purposes.items()},
            never=_never(_table(document, "emergency")),
        )


def _purpose(name: str) -> PurposeOfUse:
    try:
        return PurposeOfUse(name)
    except ValueError:
        raise ValueError(f"[purpose.{name}] is not a purpose that a caller can have") from None


def _default(name: str, rule: Any) -> Default:
    where = f"[purpose.{name}]"
    if not isinstance(rule, dict):
        raise ValueError(f"{where} is not a table")
    _only(rule, _RULE, where)
    level = rule.get("permit")
    if level != "nothing" and level not in LEVELS:
        raise ValueError(f"{where} needs permit = one of {', '.join(LEVELS)} or nothing")
    types = _texts(rule, "types", where) if "types" in rule else None
    return Default(LEVELS.get(level, 0), _texts(rule, "restricted_roles", where), types)


def _never(emergency: Mapping[str, Any]) -> frozenset[str]:
    _only(emergency, {"never"}, "[emergency]")
    codes = _texts(emergency, "never", "[emergency]")
    if unknown := codes - SENSITIVITIES:
        raise ValueError(f"[emergency] never: {', '.join(sorted(unknown))} is not a sensitivity of ActCode")
    return codes


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a table")
    return value


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"it needs {name}, a text")
    return value


def _texts(table: Mapping[str, Any], name: str, where: str) -> frozenset[str]:
    values = table.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise ValueError(f"{where} {name} is not a list of texts")
    return frozenset(values)


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := table.keys() - known:
        raise ValueError(f"{where} has {', '.join(sorted(unknown))}, which is not understood")
