"""Forwarded headers: believed of a trusted proxy alone, as far out as proxies are trustedand if well-formed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.forwarded import Dialect, Proxies, Seen

BASE = "http://127.0.0.1:8080/fhir"
PROXY = "10.0.0.1"


def proxies(*cidrs: str, dialect: Dialect = "x-forwarded", base: str = BASE) -> Proxies:
    found = Proxies.of(cidrs or ("10.0.0.0/24", "fd00::/8"), dialect, base)
    assert found is not None
    return found


def seen(trusted: Proxies, peer: str = PROXY, **headers: str | list[str]) -> Seen:
    raw = [
        (name.replace("_", "-").encode(), one.encode("latin-1"))
        for name, value in headers.items()
        for one in ([value] if isinstance(value, str) else value)
    ]
    return trusted.seen({"type": "http", "client": (peer, 4711), "headers": raw})


def test_with_no_trusted_proxy_there_is_nothing_to_believe() -> None:
    assert Proxies.of((), "x-forwarded", BASE) is None


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Proxies.of(("nonsense",), "x-forwarded", BASE)


def test_a_trusted_proxy_tells_how_it_was_addressed_and_by_whom() -> None:
    told = seen(
        proxies(),
        x_forwarded_for="192.0.2.7",
        x_forwarded_proto="https",
        x_forwarded_host="care.example:8443",
        x_forwarded_prefix="/north/",
    )
    assert told == Seen("192.0.2.7", "https://care.example:8443/north/fhir")


@pytest.mark.parametrize("peer", ["10.0.1.1", "192.0.2.9", "fe80::1", "", "unix:/run/x"])
def test_anybody_else_is_not_believed(peer: str) -> None:
    told = seen(proxies(), peer, x_forwarded_for="192.0.2.7", x_forwarded_host="evil.example")
    assert told == Seen(peer, BASE)


def test_a_connection_without_an_address_is_not_believed() -> None:
    scope = {"type": "http", "client": None, "headers": [(b"x-forwarded-host", b"evil.example")]}
    assert proxies().seen(scope) == Seen("", BASE)


def test_an_ipv4_address_is_known_in_its_ipv6_form() -> None:
    assert seen(proxies(), "::ffff:10.0.0.1", x_forwarded_for="192.0.2.7").client_address == "192.0.2.7"


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({}, BASE),
        ({"x_forwarded_proto": "https"}, "https://127.0.0.1:8080/fhir"),
        ({"x_forwarded_host": "care.example"}, "http://care.example/fhir"),
        ({"x_forwarded_host": "[2001:db8::1]:443"}, "http://[2001:db8::1]:443/fhir"),
        ({"x_forwarded_prefix": "/a/b"}, "http://127.0.0.1:8080/a/b/fhir"),
        ({"x_forwarded_prefix": "/"}, BASE),
    ],
)
def test_what_is_not_told_is_as_configured(headers: dict[str, str], base: str) -> None:
    assert seen(proxies(), **headers).base_url == base


def test_without_a_prefix_the_path_is_the_configured_one() -> None:
    trusted = proxies(base="https://node.example/care/fhir")
    assert seen(trusted, x_forwarded_host="other.example").base_url == "https://other.example/care/fhir"


@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_host": "evil.example/path"},
        {"x_forwarded_host": "user@evil.example"},
        {"x_forwarded_host": 'evil.example"'},
        {"x_forwarded_host": "evil example"},
        {"x_forwarded_host": "evil.example\r\nX: y"},
        {"x_forwarded_host": "-"},
        {"x_forwarded_host": "care.example", "x_forwarded_proto": "javascript"},
        {"x_forwarded_host": "care.example", "x_forwarded_prefix": "/../x"},
        {"x_forwarded_host": "care.example", "x_forwarded_prefix": "//evil.example"},
        {"x_forwarded_host": "care.example", "x_forwarded_prefix": "relative"},
        {"x_forwarded_host": "care.example", "x_forwarded_prefix": "/a?b"},
        {"x_forwarded_host": "a" * 5000},
    ],
)
def test_what_is_not_well_formed_is_not_taken_over_at_all(headers: dict[str, str]) -> None:
    assert seen(proxies(), **headers).base_url == BASE


def test_the_chain_is_followed_as_far_as_it_is_trusted_and_a_forged_end_is_not() -> None:
    told = seen(
        proxies(),
        x_forwarded_for="10.0.0.9, 192.0.2.7, 10.0.0.2",
        x_forwarded_proto="ftp, https, http",
        x_forwarded_host="evil.example, care.example, inner.example",
    )
    assert told == Seen("192.0.2.7", "https://care.example/fhir")


def test_a_header_that_one_proxy_wrote_is_its_own_however_many_there_are() -> None:
    told = seen(proxies(), x_forwarded_for=["192.0.2.7", "10.0.0.2"], x_forwarded_host="care.example")
    assert told == Seen("192.0.2.7", "http://care.example/fhir")


def test_an_address_that_cannot_be_read_leaves_the_proxys() -> None:
    assert seen(proxies(), x_forwarded_for="unknown", x_forwarded_proto="https").client_address == PROXY


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("for=192.0.2.7;proto=https;host=care.example", Seen("192.0.2.7", "https://care.example/fhir")),
        ('For="[2001:db8::7]:4711";Proto=https', Seen("2001:db8::7", "https://127.0.0.1:8080/fhir")),
        ('for="192.0.2.7:80";by=10.0.0.1', Seen("192.0.2.7", BASE)),
        ('for=_hidden;host="care.example:8443"', Seen(PROXY, "http://care.example:8443/fhir")),
        ('for=192.0.2.7;host="a\\.example"', Seen("192.0.2.7", "http://a.example/fhir")),
        (
            'for=10.0.0.9;host=evil.example, for="192.0.2.7";host=care.example;proto=https, for=10.0.0.2;host=in',
            Seen("192.0.2.7", "https://care.example/fhir"),
        ),
    ],
)
def test_rfc_7239_is_read(header: str, told: Seen) -> None:
    assert seen(proxies(dialect="forwarded"), forwarded=header) == told


def test_elements_may_come_in_several_headers() -> None:
    told = seen(proxies(dialect="forwarded"), forwarded=["for=192.0.2.7;host=care.example", "for=10.0.0.2"])
    assert told == Seen("192.0.2.7", "http://care.example/fhir")


@pytest.mark.parametrize(
    "header",
    [
        "nonsense",
        "for=",
        "for=192.0.2.7;for=192.0.2.8",
        "for=192.0.2.7 host=x",
        'for="192.0.2.7',
        "for=1.2.3.4;",
        "for=192.0.2.7, for=192.0.2.8;",
    ],
)
def test_a_header_that_is_not_rfc_7239s_is_passed_over(header: str) -> None:
    assert seen(proxies(dialect="forwarded"), forwarded=header) == Seen(PROXY, BASE)


def test_the_dialect_that_the_proxies_do_not_write_is_anybodys() -> None:
    forged = {"forwarded": "for=192.0.2.9;host=evil.example", "x_forwarded_for": "192.0.2.7"}
    assert seen(proxies(), **forged) == Seen("192.0.2.7", BASE)
    forged = {
        "forwarded": "for=192.0.2.7",
        "x_forwarded_for": "192.0.2.9",
        "x_forwarded_host": "evil.example",
    }
    assert seen(proxies(dialect="forwarded"), **forged) == Seen("192.0.2.7", BASE)


TEXT = st.text(st.characters(codec="latin-1"), max_size=40)


@given(TEXT, TEXT, TEXT, TEXT, st.sampled_from(["x-forwarded", "forwarded"]))
def test_whatever_a_proxy_sends_a_base_comes_out(
    node: str, proto: str, host: str, prefix: str, dialect: Dialect
) -> None:
    told = seen(
        proxies(dialect=dialect),
        forwarded=f"for={node};proto={proto};host={host}",
        x_forwarded_for=node,
        x_forwarded_proto=proto,
        x_forwarded_host=host,
        x_forwarded_prefix=prefix,
    )
    assert told.base_url.startswith(("http://", "https://")) and told.base_url.endswith("/fhir")
    assert told.base_url.isascii() and not set(told.base_url) & set(' "\\<>\r\n@?#')


@given(TEXT)
def test_any_forwarded_header_is_read_or_passed_over(header: str) -> None:
    assert seen(proxies(dialect="forwarded"), forwarded=header).base_url.endswith("/fhir")
