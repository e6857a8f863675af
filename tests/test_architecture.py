"""The house's rules, checked: which way imports point, what stays pure, and what may not be in the repository."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "app"

PURE = (
    "vocabulary.py",
    "errors.py",
    "fhir",
    "consent/decision.py",
    "consent/directive.py",
    "audit/entry.py",
    "audit/merkle.py",
    "smart/scopes.py",
)
"""What means, decides or proves. Reading its own tables from the package is all that any of it may read."""

IMPURE = {
    "aiohttp", "alembic", "asyncio", "asyncpg", "fastapi", "http.client", "httpx", "logging", "multiprocessing",
    "pydantic_settings", "requests", "rich", "socket", "sqlalchemy", "starlette", "structlog", "subprocess",
    "tempfile", "threading", "typer", "urllib.request", "uvicorn",
}  # fmt: skip
"""Frameworks, databases, networks, clocks' and threads' machinery."""

UNFINISHED = re.compile(r"\b(TODO|FIXME|HACK|NotImplementedError)\b")


def modules(*roots: str) -> list[Path]:
    """Python files under these files or folders of app/."""
    found = [path for root in roots for path in (sorted((APP / root).rglob("*.py")) or [APP / root])]
    assert all(path.is_file() for path in found), "a module that must be checked is gone"
    return found


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tracked() -> list[Path]:
    """Every file that is or is about to be in the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what the repository holds cannot be listed")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_imports_point_one_way_and_each_library_has_one_door() -> None:
    verdict = lint_imports(
        config_filename=str(ROOT / "pyproject.toml"), cache_dir=None, no_cache=True, no_logo=True
    )
    assert verdict == EXIT_STATUS_SUCCESS, "run `make check`: it names the import that points the wrong way"


@pytest.mark.parametrize("root", PURE)
def test_what_means_decides_or_proves_does_no_io_and_knows_no_framework(root: str) -> None:
    found = {(path.name, name) for path in modules(root) for name in imports(path) if name in IMPURE}
    assert not found


@pytest.mark.parametrize("root", PURE)
def test_what_means_decides_or_proves_does_not_read_the_clock(root: str) -> None:
    clock = re.compile(r"\b(datetime\.now|datetime\.utcnow|date\.today|time\.time|perf_counter|monotonic)\(")
    assert not [path.name for path in modules(root) if clock.search(path.read_text())]


def test_dependency_injection_appears_in_one_module_at_most() -> None:
    users = {
        path.name
        for path in modules(".")
        for name in imports(path)
        if name in ("fastapi.Depends", "fastapi.Security")
    }
    assert len(users) <= 1


def test_no_test_replaces_part_of_the_service() -> None:
    # Setting environment variables is not patching; `monkeypatch.setattr` and all of `mock` are.
    patching = re.compile(r"monkeypatch\.(set|del)(attr|item)\b|\bunittest.mock\b|\bmocker\b")
    tests = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)]
    assert len(tests) > 5
    assert not [path.name for path in tests if patching.search(path.read_text())]


def test_production_code_is_finished() -> None:
    paths = [*modules("."), *(ROOT / "migrations").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    found = [f"{path.name}: {match[0]}" for path in paths for match in UNFINISHED.finditer(path.read_text())]
    assert not found


def test_migrations_are_one_linear_chain_in_the_order_of_their_names() -> None:
    previous: str | None = None
    paths = sorted((ROOT / "migrations" / "versions").glob("*.py"))
    assert paths
    for path in paths:
        names = _assigned(ast.parse(path.read_text()))
        assert re.fullmatch(r"\d{4}_[a-z]+(_[a-z]+)+", path.stem), (
            f"{path.name} is not a numbered verb phrase"
        )
        assert names["revision"] == path.stem[:4]
        assert names["down_revision"] == previous
        previous = path.stem[:4]


def _assigned(module: ast.Module) -> dict[str, object]:
    """Constants assigned at the top of a module, also by ``a, b = 1, 2``."""
    found: dict[str, object] = {}
    for node in module.body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], ast.literal_eval(node.value)
            if isinstance(target, ast.Tuple):
                names = [name.id for name in target.elts if isinstance(name, ast.Name)]
                found.update(zip(names, value, strict=True))
            elif isinstance(target, ast.Name):
                found[target.id] = value
    return found


def test_nothing_in_the_repository_names_an_index_a_machine_or_a_wheel() -> None:
    # Spelt in pieces, so that this file passes its own test.
    forbidden = {
        "an index's host": re.compile(
            r"py" + r"pi\.org|python" + r"hosted|artif" + r"actory|\.jf" + r"rog\."
        ),
        "an index option": re.compile(
            r"--(extra-)?index" + r"-url[ =]|--find" + r"-links[ =]|--trusted" + r"-host[ =]"
        ),
        "a path of one machine": re.compile(
            r"(?<![\w.])/(wo" + r"rk|tm" + r"p|ro" + r"ot|ho" + r"me/\w+|User" + r"s/\w+)/"
        ),
        "the address of a wheel": re.compile(r"(https?|file)://\S+\.(whl|tar" + r"\.gz)\b"),
    }
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}: {what}: {m[0]}"
            for what, rule in forbidden.items()
            for m in rule.finditer(text)
        ]
    assert not found


def test_every_decision_is_numbered_listed_and_says_why() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    decisions = sorted(folder.glob("[0-9]*.md"))
    assert [path.name[:4] for path in decisions] == [f"{n:04d}" for n in range(1, len(decisions) + 1)]
    assert len(decisions) >= 10
    for path in decisions:
        text = path.read_text()
        assert f"({path.name})" in index, f"{path.name} is not in docs/adr/README.md"
        assert text.startswith(f"# {path.name[:4]} ")
        for heading in ("## Context", "## Decision", "## Consequences"):
            assert heading in text, f"{path.name} has no {heading}"
