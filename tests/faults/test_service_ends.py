"""One service a home, tools beside it, and an end that leaves nothing behind (SIGTERM, Ctrl-C)."""

import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from app.errors import DatabaseUnavailable
from tests.processes import END_SECONDS, Home, Running, System, a_home, free_port
from tests.world import a_patient, an_observation

RX1 = System("rx1", "RX1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return a_home(tmp_path_factory, "ends", embedded=True, CANDOUR_CUSTODIANS="RX1")


@pytest.fixture
def serving(home: Home) -> Iterator[Home]:
    with home.serving():
        home.register(RX1.registration())
        yield home


def test_a_second_service_says_so_and_the_first_goes_on(serving: Home) -> None:
    second = Home(serving.path, free_port()).candour("serve", seconds=20)
    assert second.returncode == 2
    assert "already serves" in second.stderr and "CANDOUR_HOME" in second.stderr
    assert "Traceback" not in second.stderr
    assert httpx.get(f"{serving.root}/readyz").status_code == 200
    token = serving.candour("token", "--client", "rx1")
    bearer = {"Authorization": f"Bearer {token.stdout.strip()}"}
    assert httpx.get(f"{serving.base}/Observation?patient=nobody", headers=bearer).status_code == 200
    listed = serving.candour("client", "list")
    assert listed.stdout.startswith("rx1  system  RX1  ")
    assert serving.candour("verify").stdout.startswith("The audit log is whole: 1 entries, root ")
    assert serving.postmaster() is not None, "a tool that ends leaves the service its PostgreSQL"
    assert httpx.get(f"{serving.root}/readyz").status_code == 200


def test_tools_work_alone_and_leave_nothing_running(home: Home) -> None:
    token = home.candour("token", "--client", "rx1", "--purpose", "TREAT")
    assert token.returncode == 0 and token.stdout.count(".") == 2
    assert home.candour("verify").returncode == 0
    unknown = home.candour("token", "--client", "nobody")
    assert unknown.returncode == 2 and "Traceback" not in unknown.stderr
    assert unknown.stderr.startswith("candour: No active client")
    assert home.postmaster() is None


def test_an_occupied_port_is_told_in_a_sentence(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = Home(home.path, taken.getsockname()[1]).candour("serve", seconds=30)
    assert refused.returncode not in (0, None)
    assert "Traceback" not in refused.stderr
    assert "in use" in refused.stderr
    assert home.postmaster() is None


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_asked_to_end_stops_its_postgres(home: Home, how: signal.Signals) -> None:
    with home.serving() as service:
        assert home.postmaster() is not None
        assert service.end(how) == 0
        assert home.postmaster() is None
        assert not (home.path / "postgres" / "postmaster.pid").exists(), "it was stopped, not killed"
        assert "Traceback" not in service.told


def test_a_start_that_is_interrupted_leaves_nothing_running(home: Home) -> None:
    with home.running("serve") as service:
        service.wait_for(lambda: home.postmaster() is not None)
        assert service.end() != 0
        assert home.postmaster() is None
        assert "Traceback" not in service.told


def test_a_load_that_was_interrupted_can_be_repeated_and_completes(home: Home, tmp_path: Path) -> None:
    """First by SIGTERM, then because PostgreSQL is killed under it."""
    _many_files(tmp_path)
    command = ("load", str(tmp_path), "--custodian", "RX1")
    with home.running(*command) as loading:
        loading.wait_for(lambda: _has_more_than(home, 0))
        assert loading.end() == 130
        assert home.postmaster() is None
        assert "Traceback" not in loading.told
    with home.running(*command) as loading:
        loading.wait_for(lambda: _has_more_than(home, 0))
        kept = home.kept()
        loading.wait_for(lambda: _has_more_than(home, kept))
        postmaster = home.postmaster()
        assert postmaster is not None
        postmaster.kill()
        assert loading.process.wait(30) == 2
        assert "run the same command again" in loading.told
        assert "Traceback" not in loading.told
    completed = home.candour(*command)
    assert completed.returncode == 0, completed.stderr
    assert "rejected" not in completed.stdout
    assert not (home.path / "rejects").exists(), "no record was to blame"
    with home.serving():
        assert home.kept() == 60 * 61


def test_processes_that_load_side_by_side_may_be_killed_and_keep_each_record_once(
    home: Home, tmp_path: Path
) -> None:
    """First one of them, then the one that started them; none is left behind."""
    _many_files(tmp_path, "side")
    with home.serving():
        before = home.kept()
    command = ("load", str(tmp_path), "--custodian", "RX1", "--processes", "2")
    with home.running(*command) as loading:
        loading.wait_for(lambda: _has_more_than(home, before))
        _workers(loading)[0].kill()
        assert loading.process.wait(60) == 2, loading.told
        assert "run the same command again" in loading.told
        assert "Traceback" not in loading.told
    with home.running(*command) as loading:
        loading.wait_for(lambda: len(_workers(loading)) == 2 and home.postmaster() is not None)
        kept = home.kept()
        loading.wait_for(lambda: _has_more_than(home, kept))
        workers = _workers(loading)
        loading.process.kill()
        gone, left = psutil.wait_procs(workers, timeout=END_SECONDS)
        assert (len(gone), left) == (2, [])
    completed = home.candour(*command)
    assert completed.returncode == 0, completed.stderr
    with home.serving():
        assert home.kept() == before + 60 * 61
    assert home.candour("verify").returncode == 0


def _workers(loading: Running) -> list[psutil.Process]:
    """The processes that keep records; beside them is the one that minds what processes share."""
    children = psutil.Process(loading.process.pid).children()
    return [one for one in children if "spawn_main" in _words_of(one)]


def _words_of(process: psutil.Process) -> str:
    """Its command; empty for one that has ended and waits to be noticed, as a helper of PostgreSQL's start may."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""


def _many_files(folder: Path, prefix: str = "l") -> None:
    for number in range(60):
        name = f"{prefix}{number}"
        records = [a_patient(name, None)]
        records += [orjson.loads(an_observation(name, id=f"{name}-{one}")) for one in range(60)]
        (folder / f"{number:02}.ndjson").write_bytes(b"\n".join(orjson.dumps(one) for one in records))


def _has_more_than(home: Home, count: int) -> bool:
    with suppress(DatabaseUnavailable, OSError, IndexError):
        return home.kept() > count
    return False
