"""``candour load`` as an operator meets it: every packing, every kind of fault, and a second run."""

import bz2
import gzip
import json
import lzma
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from app.__main__ import app
from tests.processes import Home, a_home
from tests.world import MARGARET, a_patient, an_observation

DOCTOR = {
    "resourceType": "Practitioner",
    "id": "d1",
    "identifier": [{"system": "https://fhir.hl7.org.uk/Id/gmc-number", "value": "1234567"}],
}


def _transaction(*resources: dict[str, Any]) -> bytes:
    entries = [
        {
            "fullUrl": f"urn:uuid:00000000-0000-4000-8000-{number:012}",
            "resource": one,
            "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
        }
        for number, one in enumerate(resources)
    ]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()


def _observation(id: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(an_observation("p1", id=id, **more))
    return made


def _files(folder: Path) -> None:
    """Good files in every packing, and faults among them. ``a-…`` comes first by name and last by its order."""
    seen = {"reference": "Practitioner?identifier=https://fhir.hl7.org.uk/Id/gmc-number|1234567"}
    lines = [
        json.dumps(_observation("n1", note=[{"text": "one\u2028text\u0085still"}]), ensure_ascii=False),
        json.dumps(_observation("n2", status="nonsense")),
        '{"resourceType":"Observation",',
        json.dumps(_observation("n3")),
    ]
    written = {
        "practitionerInformation.json.gz": gzip.compress(_transaction(DOCTOR)),
        "patient.json": json.dumps(a_patient("p1")).encode(),
        "a-bundle.json.bz2": bz2.compress(_transaction(_observation("b1", performer=[seen]))),
        "lines.ndjson.xz": lzma.compress("\n".join(lines).encode()),
        "single.json": json.dumps(_observation("s1")).encode(),
        "broken.json": b'{"resourceType":"Observation"',
        "cut.json.gz": gzip.compress(b'{"resourceType":"Basic"}' * 50)[:-20],
        "damaged.json.gz": gzip.compress(b"{}")[:10] + b"\xff" * 20,
        "cut.json.bz2": bz2.compress(b"{}" * 99)[:-9],
        "cut.json.xz": lzma.compress(b"{}" * 99)[:-9],
        "half.json": _transaction(_observation("t1"), _observation("t2", status="nonsense")),
        "notes.txt": b"not for loading",
    }
    for name, content in written.items():
        (folder / name).write_bytes(content)


@dataclass(frozen=True)
class Loaded:
    home: Home
    first: subprocess.CompletedProcess[str]
    rejected: dict[str, list[dict[str, Any]]]
    before: tuple[int, int]
    second: subprocess.CompletedProcess[str]
    after: tuple[int, int]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The folder loaded twice, beside the running service."""
    home = a_home(tmp_path_factory, "load", CANDOUR_CUSTODIANS="RX1")
    folder = tmp_path_factory.mktemp("files")
    _files(folder)
    with home.serving():
        command = ("load", str(folder), "--custodian", "RX1")
        first = home.candour(*command)
        rejects = {
            path.name.removesuffix(".rejects.ndjson"): _lines(path)
            for path in (home.path / "rejects").iterdir()
        }
        before = home.kept(), len(home.events())
        second = home.candour(*command)
        after = home.kept(), len(home.events())
    return Loaded(home, first, rejects, before, second, after)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_what_is_good_is_loaded_and_the_exit_code_says_that_some_was_not(loaded: Loaded) -> None:
    assert loaded.first.returncode == 1, loaded.first.stderr
    assert "Traceback" not in loaded.first.stderr
    assert loaded.first.stdout.startswith("6 resources kept, 0 known already, from 11 files; 8 rejected")
    assert loaded.before[0] == 6, "d1, p1, b1, n1, n3, s1"


def test_each_fault_has_its_reason_in_the_file_of_its_name(loaded: Loaded) -> None:
    assert sorted(loaded.rejected) == [
        "broken.json",
        "cut.json.bz2",
        "cut.json.gz",
        "cut.json.xz",
        "damaged.json.gz",
        "half.json",
        "lines.ndjson.xz",
    ]
    lines = loaded.rejected["lines.ndjson.xz"]
    places = {one["place"]: one["reason"] for one in lines}
    assert sorted(places) == ["line 2", "line 3"]
    assert "status" in places["line 2"]
    assert all(one["reason"] for lines in loaded.rejected.values() for one in lines)
    [half] = loaded.rejected["half.json"]
    assert "Bundle.entry[1].resource.status" in half["reason"]
    assert json.loads(half["resource"])["type"] == "transaction", "it can be corrected and loaded again"


def test_reject_files_are_their_owners_alone(loaded: Loaded) -> None:
    assert {path.stat().st_mode & 0o777 for path in (loaded.home.path / "rejects").iterdir()} == {0o600}


def test_a_second_run_changes_nothing(loaded: Loaded) -> None:
    assert loaded.second.returncode == 1
    assert loaded.second.stdout.startswith("0 resources kept")
    assert loaded.after == loaded.before


def test_nothing_that_is_printed_names_a_patient(loaded: Loaded) -> None:
    for run in (loaded.first, loaded.second):
        assert MARGARET not in run.stdout + run.stderr


def test_nothing_to_load_is_a_sentence(loaded: Loaded, tmp_path: Path) -> None:
    nothing = loaded.home.candour("load", str(tmp_path), "--custodian", "RX1")
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("candour: nothing to load") and "Traceback" not in nothing.stderr


def test_every_command_and_option_says_what_it_is_for() -> None:
    commands = _commands(typer.main.get_command(app), ())
    assert {("serve",), ("load",), ("verify",), ("client", "add"), ("source", "add")} <= set(commands)
    for words, command in commands.items():
        assert command.help, words
        without = [one.name for one in command.params if hasattr(one, "help") and not one.help]
        assert set(without) <= {"client_id", "ods", "help"}, words
        shown = CliRunner().invoke(app, [*words, "--help"])
        assert shown.exit_code == 0 and "Usage" in shown.stdout


def _commands(command: Any, words: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
    if not hasattr(command, "commands"):
        return {words: command}
    found: dict[tuple[str, ...], Any] = {}
    for name, one in command.commands.items():
        found |= _commands(one, (*words, name))
    return found
