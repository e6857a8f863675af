"""What a caller would like, and need not be given: the header ``Prefer`` (RFC 7240; R4 http, 3.1.0.1.6)."""

from collections.abc import Iterable
from functools import lru_cache

from app.asked import Preference

_RETURNS = {one.value.lower(): one for one in Preference}


def preferred(headers: Iterable[tuple[bytes, bytes]], name: str) -> str | None:
    """The value of the preference ``name``, in lower case; None where the caller has none."""
    given = [value for header, value in headers if header == b"prefer"]
    return _read(b",".join(given)).get(name) if given else None


def returned(headers: Iterable[tuple[bytes, bytes]]) -> Preference:
    """What a write is to be answered with; the resource, where nothing else is said that is known here."""
    return _RETURNS.get(preferred(headers, "return") or "", Preference.REPRESENTATION)


@lru_cache(maxsize=256)
def _read(header: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in header.decode("latin-1").split(","):
        name, _, value = one.partition(";")[0].partition("=")
        # Of a preference that is given twice, the first counts (RFC 7240, 2).
        found.setdefault(name.strip().lower(), value.strip().strip('"').lower())
    return found
