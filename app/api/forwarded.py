"""What proxies in front of the node tell it: the address by which a caller reaches it, and the caller's own.

``Forwarded`` (RFC 7239) or ``X-Forwarded-For``, ``-Proto``, ``-Host`` and ``-Prefix``, and only from an address that
the operator trusts. What they tell is used for the links of an answer, and as the network address in its audit entry.
What is ours, and whose a record is, is decided under the configured base alone: a forged header changes nothing that
is kept or decided, and shows its sender links that lead nowhere.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, Self
from urllib.parse import urlsplit

from starlette.types import Scope

from app.audit.entry import Interaction
from app.fhir.bundle import moved

Address = IPv4Address | IPv6Address
Dialect = Literal["x-forwarded", "forwarded"]

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(rf'[ \t]*({_WORD})=({_WORD}|"(?:[^"\\]|\\.)*")[ \t]*([;,]|\Z)')
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_MOST = 4096

_OF_OUR_MAKING = frozenset(
    {
        Interaction.SEARCH,
        Interaction.HISTORY,
        Interaction.EVERYTHING,
        Interaction.TRANSACTION,
        Interaction.BATCH,
        Interaction.AUDIT_READ,
    }
)
"""Interactions whose Bundle this service writes. One that is read by its id is a custodian's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the outermost trusted proxy saw it."""

    client_address: str
    base_url: str


@dataclass(frozen=True, slots=True)
class _Hop:
    """What one proxy wrote down: who came to it, and how it was addressed."""

    came_from: Address | None
    proto: str | None
    host: str | None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Proxies:
    """Whom to believe, and in which of the two dialects: a proxy writes one, and passes the other on from anybody."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    dialect: Dialect
    base_url: str

    @classmethod
    def of(cls, cidrs: Sequence[str], dialect: Dialect, base_url: str) -> Self | None:
        """None where nobody is trusted. Raises ValueError for what is no network."""
        networks = tuple(ip_network(one, strict=False) for one in cidrs)
        return cls(networks, dialect, base_url) if networks else None

    def seen(self, scope: Scope) -> Seen:
        """The request as the outermost trusted proxy saw it; as it came where nobody trusted brought it."""
        peer = scope["client"][0] if scope.get("client") else ""
        if not self._trusts(_address(peer)):
            return Seen(peer, self.base_url)
        hop = self._outermost(_hops(scope["headers"], self.dialect))
        if hop is None:
            return Seen(peer, self.base_url)
        return Seen(str(hop.came_from) if hop.came_from else peer, self._base(hop))

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)

    def _outermost(self, hops: Sequence[_Hop]) -> _Hop | None:
        """From the nearest proxy outwards, as long as who came to it is trusted as well: the next may be forged."""
        found = None
        for found in reversed(hops):
            if not self._trusts(found.came_from):
                break
        return found

    def _base(self, hop: _Hop) -> str:
        """Nothing is taken over from a hop that says anything of a wrong form."""
        configured = urlsplit(self.base_url)
        proto = (hop.proto or configured.scheme).lower()
        host, prefix = hop.host or configured.netloc, (hop.prefix or "").rstrip("/")
        if not (proto in ("http", "https") and _HOST.fullmatch(host) and _PREFIX.fullmatch(prefix)):
            return self.base_url
        path = configured.path if hop.prefix is None else prefix + "/fhir"
        return f"{proto}://{host}{path}"


def _hops(headers: Sequence[tuple[bytes, bytes]], dialect: Dialect) -> list[_Hop]:
    """What each proxy wrote, the outermost first; nothing where it cannot be read."""
    named: dict[str, str] = {}
    for name, value in headers:
        if name == b"forwarded" or name.startswith(b"x-forwarded-"):
            key, text = name.decode("latin-1"), value.decode("latin-1")
            named[key] = f"{named[key]},{text}" if key in named else text
    if any(len(value) > _MOST for value in named.values()):
        return []
    return _forwarded(named.get("forwarded", "")) if dialect == "forwarded" else _x_forwarded(named)


def _forwarded(header: str) -> list[_Hop]:
    """RFC 7239, 4: elements between commas, pairs between semicolons."""
    hops: list[_Hop] = []
    pairs: dict[str, str] = {}
    position = 0
    while position < len(header):
        pair = _PAIR.match(header, position)
        if pair is None or pair[1].lower() in pairs:
            return []
        pairs[pair[1].lower()] = _unquoted(pair[2])
        position = pair.end()
        if pair[3] != ";":
            hops.append(_Hop(_node(pairs.get("for", "")), pairs.get("proto"), pairs.get("host")))
            pairs = {}
    return hops if not pairs else []


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _x_forwarded(named: Mapping[str, str]) -> list[_Hop]:
    """One hop for each address of ``X-Forwarded-For``; a header with fewer values was set by the outermost proxy."""

    def values(name: str) -> list[str]:
        text = named.get(f"x-forwarded-{name}")
        return [one.strip() for one in text.split(",")] if text is not None else []

    came = values("for")
    lists = [values(name) for name in ("proto", "host", "prefix")]
    count = max(len(came), int(any(lists)))
    hops = []
    for outwards in range(count - 1, -1, -1):
        proto, host, prefix = (
            given[-1 - min(outwards, len(given) - 1)] if given else None for given in lists
        )
        address = _node(came[-1 - outwards]) if outwards < len(came) else None
        hops.append(_Hop(address, proto, host, prefix))
    return hops


def _node(text: str) -> Address | None:
    """The address of ``192.0.2.1``, ``192.0.2.1:80``, ``[2001:db8::1]:80``; none of ``unknown`` or ``_hidden``."""
    if text.startswith("["):
        return _address(text[1:].partition("]")[0])
    return _address(text.partition(":")[0] if text.count(":") == 1 else text)


def _address(text: str) -> Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def linked(text: str, interaction: Interaction, base: str, under: str | None) -> str:
    """The answer to ``interaction`` with its links under the base that the caller knows."""
    if under is None or under == base or not text or interaction not in _OF_OUR_MAKING:
        return text
    return moved(text, base, under)
