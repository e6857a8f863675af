"""The node's own keys: private files, made once, rotated without refusing anybody."""

import os
import stat
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from app.errors import NotStarted
from app.smart.jose import thumbprint
from app.smart.keys import KeyStore


def _kids(directory: str) -> list[object]:
    return [key["kid"] for key in KeyStore(Path(directory)).jwks()["keys"]]


def test_the_same_directory_gives_the_same_keys(tmp_path: Path) -> None:
    first, second = KeyStore(tmp_path / "keys"), KeyStore(tmp_path / "keys")
    assert first.jwks() == second.jwks()
    assert first.cursor_secret == second.cursor_secret
    assert len(first.cursor_secret) == 32


def test_two_nodes_have_different_keys(tmp_path: Path, keystore: KeyStore) -> None:
    other = KeyStore(tmp_path / "keys")
    assert other.access_key.kid != keystore.access_key.kid
    assert other.cursor_secret != keystore.cursor_secret


def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    KeyStore(tmp_path / "keys")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_a_key_that_others_may_read_stops_the_start(tmp_path: Path) -> None:
    KeyStore(tmp_path)
    next(tmp_path.glob("access-*.pem")).chmod(0o644)
    with pytest.raises(NotStarted, match="chmod 600"):
        KeyStore(tmp_path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_file_that_holds_no_key_stops_the_start(tmp_path: Path, content: bytes) -> None:
    KeyStore(tmp_path)
    next(tmp_path.glob("assertion-*.pem")).write_bytes(content)
    with pytest.raises(NotStarted, match="no private key for ES384"):
        KeyStore(tmp_path)


def test_a_cut_cursor_secret_stops_the_start(tmp_path: Path) -> None:
    KeyStore(tmp_path)
    (tmp_path / "cursor.key").write_bytes(b"short")
    with pytest.raises(NotStarted, match="32 bytes"):
        KeyStore(tmp_path)


def test_a_place_where_no_directory_can_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotStarted, match="cannot be read or made"):
        KeyStore(tmp_path / "file" / "keys")


def test_the_published_keys_are_public_and_named_by_their_thumbprints(keystore: KeyStore) -> None:
    published = keystore.jwks()["keys"]
    assert [(key["kty"], key["alg"], key["use"]) for key in published] == [
        ("RSA", "RS256", "sig"),
        ("EC", "ES384", "sig"),
    ]
    for key in published:
        assert key["kid"] == thumbprint(key)
        assert key.keys().isdisjoint({"d", "p", "q", "dp", "dq", "qi"})


def test_after_a_rotation_the_newest_signs_and_all_verify(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    old = store.access_key
    new = store.rotate("access")
    assert store.access_key is new
    assert new.kid != old.kid
    assert store.access_verifier(old.kid) is not None
    assert store.access_verifier(new.kid) is not None
    assert KeyStore(tmp_path).access_key.kid == new.kid


def test_another_process_learns_of_a_rotation(tmp_path: Path) -> None:
    store, other = KeyStore(tmp_path), KeyStore(tmp_path, reload_seconds=0)
    new = store.rotate("access")
    assert other.access_verifier(new.kid) is not None


def test_unknown_keys_do_not_make_it_read_its_files_at_every_request(tmp_path: Path) -> None:
    store, other = KeyStore(tmp_path), KeyStore(tmp_path, reload_seconds=60)
    assert other.access_verifier(store.rotate("access").kid) is None


def test_keys_that_cannot_be_read_any_more_leave_those_known_in_use(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, reload_seconds=0)
    known = store.access_key.kid
    for path in tmp_path.glob("*.pem"):
        path.unlink()
    assert store.access_verifier("unknown") is None
    assert store.access_verifier(known) is not None


def test_the_assertion_key_does_not_verify_access_tokens(keystore: KeyStore) -> None:
    assert keystore.access_verifier(keystore.assertion_key.kid) is None


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs processes that run at once")
def test_processes_that_start_at_once_agree_on_the_keys(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        found = list(pool.map(_kids, [str(tmp_path / "keys")] * 6))
    assert len({tuple(kids) for kids in found}) == 1
    assert len(found[0]) == 2
