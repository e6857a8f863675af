"""Where the database is, and why it cannot be used: what a first connection fails with, as a sentence for the operator.

A URL holds a password, and what cannot be read as one may be part of it: no sentence here repeats more of a URL than
its host and its database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import asyncpg

from app.errors import DatabaseUnavailable, NotStarted

NO_ANSWER: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
)
"""What a missing, starting, stopping or full server raises."""

_FORM: Final = "it has to look like postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_WHICH: Final = "Check DATABASE_URL and DATABASE_OWNER_URL"
_ENCODED: Final = "in a URL, characters like @ : / ? # % of a password are percent-encoded"


def plain_url(url: str) -> str:
    """``postgresql+asyncpg://…`` and ``postgres://…`` as asyncpg wants them. Raises NotStarted for what is neither."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise NotStarted(f"The database's URL is not that of a PostgreSQL server: {_FORM}. {_WHICH}.")
    return f"postgresql://{rest}"


def address(url: str) -> str:
    """The host and database that ``url`` leads to, without who logs in there and how. Raises NotStarted."""
    parts = _read(url)
    host = parts.netloc.rpartition("@")[2] or ",".join(parse_qs(parts.query).get("host", ["this machine"]))
    return host + parts.path


def _read(url: str) -> SplitResult:
    try:
        parts = urlsplit(plain_url(url))
    except ValueError:
        raise _unreadable() from None
    # A / ? or # in a password ends the part with the host too early, and the password's rest would be shown.
    if "@" in parts.path + parts.query + parts.fragment:
        raise _unreadable()
    return parts


def _unreadable() -> NotStarted:
    """Without what was found: it may be a part of the password."""
    return NotStarted(f"The database's URL cannot be read: {_FORM}; {_ENCODED}. {_WHICH}.")


@contextmanager
def connecting(url: str) -> Iterator[None]:
    """Around a first connection. Raises NotStarted for what a person has to put right, else DatabaseUnavailable."""
    where, login = address(url), _login(url)
    try:
        yield
    except NO_ANSWER as error:
        raise DatabaseUnavailable(
            f"The database at {where} does not answer: {_words(error)}. "
            f"Is it running and reachable from here? {_WHICH}."
        ) from error
    except asyncpg.InvalidPasswordError as error:
        raise NotStarted(
            f"The database at {where} refuses the password of the login {login}. {_WHICH}; {_ENCODED}."
        ) from error
    except asyncpg.InvalidCatalogNameError as error:
        raise NotStarted(
            f"There is no such database on its server: {where}. Let an administrator make it, "
            "owned by the role that migrates: CREATE DATABASE … OWNER … ENCODING 'UTF8' TEMPLATE template0."
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotStarted(
            f"The login {login} may not do what it is there for at {where}: {_words(error)}. "
            f"{_grant(error, login)}"
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise NotStarted(
            f"The database at {where} cannot be used by the login {login}: {_words(error)}. {_WHICH}."
        ) from error
    except ValueError:
        raise _unreadable() from None


def _login(url: str) -> str:
    user, at, _ = _read(url).netloc.rpartition("@")
    return unquote(user.partition(":")[0]) if at else "that is the default"


def _words(error: BaseException) -> str:
    """The server's own words, in one line; they name roles and databases, never a password."""
    said = getattr(error, "message", None) or str(error) or "nothing came back in time"
    return str(said).splitlines()[0].rstrip(".")


def _grant(error: asyncpg.InsufficientPrivilegeError, login: str) -> str:
    if "candour_app" in _words(error):
        return f'Let an administrator run: GRANT candour_app TO "{login}".'
    return f'Let an administrator run: GRANT CONNECT ON DATABASE … TO "{login}".'
