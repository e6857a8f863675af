"""What keeps a first connection from being made is told as a sentence that helps, and never tells a password."""

from urllib.parse import quote

import asyncpg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.connecting import address, connecting, plain_url
from app.errors import DatabaseUnavailable, NotStarted

URL = "postgresql://ward:s3cr3t-word@db.example:5433/records"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_each_way_to_say_postgresql_is_understood(scheme: str) -> None:
    assert plain_url(f"{scheme}://ward@db.example/records") == "postgresql://ward@db.example/records"


@pytest.mark.parametrize(
    "url", ["", "records", "host=db.example dbname=records", "mysql://ward:s3cr3t-word@db/records"]
)
def test_what_is_no_url_of_a_postgresql_is_refused_and_not_taken_for_this_machine(url: str) -> None:
    with pytest.raises(NotStarted, match="postgresql://USER:PASSWORD@HOST") as refused:
        plain_url(url)
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (URL, "db.example:5433/records"),
        ("postgresql://ward:pass@word@db.example/records?sslmode=require", "db.example/records"),
        (
            "postgresql://ward@one.example:5432,two.example:5433/records",
            "one.example:5432,two.example:5433/records",
        ),
        ("postgresql://ward@/records?host=/run/postgresql&port=5433", "/run/postgresql/records"),
        ("postgresql:///records", "this machine/records"),
    ],
)
def test_an_address_is_host_and_database(url: str, where: str) -> None:
    assert address(url) == where


FAILURES = [
    (
        ConnectionRefusedError(111, "refused"),
        DatabaseUnavailable,
        "does not answer: [Errno 111] refused. Is it running",
    ),
    (TimeoutError(), DatabaseUnavailable, "nothing came back in time"),
    (
        asyncpg.CannotConnectNowError("the database system is starting up"),
        DatabaseUnavailable,
        "is starting up",
    ),
    (asyncpg.TooManyConnectionsError("too many clients"), DatabaseUnavailable, "too many clients"),
    (
        asyncpg.InvalidPasswordError("no"),
        NotStarted,
        "refuses the password of the login ward. Check DATABASE_URL",
    ),
    (asyncpg.InvalidCatalogNameError("no"), NotStarted, "CREATE DATABASE"),
    (
        asyncpg.InvalidAuthorizationSpecificationError("no pg_hba.conf entry"),
        NotStarted,
        "no pg_hba.conf entry",
    ),
    (
        asyncpg.InsufficientPrivilegeError('permission denied to set role "candour_app"'),
        NotStarted,
        'GRANT candour_app TO "ward"',
    ),
    (
        asyncpg.InsufficientPrivilegeError('permission denied for database "x"'),
        NotStarted,
        "GRANT CONNECT ON DATABASE",
    ),
    (
        asyncpg.ObjectNotInPrerequisiteStateError("not currently accepting"),
        NotStarted,
        "not currently accepting",
    ),
    (
        asyncpg.ClientConfigurationError("`sslmode` parameter must be"),
        NotStarted,
        "`sslmode` parameter must be",
    ),
    (ValueError("invalid literal for int(): 's3cr3t-word'"), NotStarted, "percent-encoded"),
]


@pytest.mark.parametrize(("failure", "raised", "said"), FAILURES, ids=lambda one: str(one)[:30])
def test_each_failure_says_what_to_do(failure: Exception, raised: type[Exception], said: str) -> None:
    with pytest.raises(raised) as refused, connecting(URL):
        raise failure
    assert said in str(refused.value)
    assert (
        "DATABASE_URL" in str(refused.value) or "run:" in str(refused.value) or "CREATE" in str(refused.value)
    )
    assert "s3cr3t" not in str(refused.value)
    assert "\n" not in str(refused.value)


@given(
    st.text(st.characters(codec="ascii", min_codepoint=33), min_size=4, max_size=12).map(
        lambda word: f"~{word}~"
    ),
    st.booleans(),
    st.sampled_from([failure for failure, _, _ in FAILURES[:-1]]),
)
@example("~a@b/c~", False, FAILURES[0][0])
@example("~a@b?c~", False, FAILURES[0][0])
@example("~a#c~", False, FAILURES[0][0])
def test_no_password_is_ever_told_also_one_that_breaks_the_url(
    word: str, encoded: bool, failure: Exception
) -> None:
    url = f"postgresql://ward:{quote(word, safe='~') if encoded else word}@db.example:5433/records"
    with pytest.raises((NotStarted, DatabaseUnavailable)) as refused, connecting(url):
        raise failure
    said = str(refused.value)
    # What follows a stray @, / or # in it must not be told either.
    for end in "@/?#[]":
        assert word.rpartition(end)[2] not in said and word.partition(end)[0] not in said
