"""The house's papers, checked: what is pinned, what is promised in the README, and how it is set up."""

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.audit.merkle import leaf_hash, tree_root
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("build.txt", "dev.txt", "run.txt")


def pinned(lock: str) -> dict[str, str]:
    """Name and exact version of everything that a lock file installs."""
    text = (ROOT / "requirements" / lock).read_text()
    return {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    }


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def code(text: str) -> str:
    """What stands as code in a Markdown text: fenced or between backticks."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_exact_and_has_hashes(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.!+]+( ; [^;]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", line), line[
            :60
        ]


@pytest.mark.parametrize("lock", LOCKS)
def test_no_requirement_says_where_it_comes_from(lock: str) -> None:
    assert "://" not in (ROOT / "requirements" / lock).read_text()


def test_what_runs_is_what_was_tested() -> None:
    tested = pinned("dev.txt")
    for lock in LOCKS:
        assert pinned(lock).items() <= tested.items()


def test_everything_the_project_depends_on_is_pinned_within_its_bounds() -> None:
    wanted = {"run.txt": PROJECT["project"]["dependencies"]}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted["build.txt"], wanted["dev.txt"] = (
        extras["build"],
        [r for r in extras["dev"] if not r.startswith("candour[")],
    )
    for lock, requirements in wanted.items():
        versions = pinned(lock)
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_a_wheel_would_hold_every_table_and_policy_of_the_product() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    files = [
        path for folder in ("app", "migrations") for path in (ROOT / folder).rglob("*") if path.is_file()
    ]
    kept = [path for path in files if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]
    left_out = [
        path.relative_to(ROOT)
        for path in kept
        if path.suffix not in (".py", ".pyc") and not any(fnmatch(path.name, pattern) for pattern in patterns)
    ]
    assert any(path.suffix == ".xz" for path in kept)
    assert not left_out


def test_every_make_target_says_what_it_does() -> None:
    phony = set(re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[1].split())  # type: ignore[index]  # it is there
    helped = set(re.findall(r"^([a-z]+):.*## [A-Z].+$", MAKEFILE, re.MULTILINE))
    assert phony == helped == targets()
    assert {"demo", "test", "check", "bench", "dev"} <= helped


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md", "Dockerfile", ".ci/run"])
def test_only_make_targets_that_exist_are_named(paper: str) -> None:
    text = (ROOT / paper).read_text()
    named = set(re.findall(r"\bmake ([a-z]+)", code(text) if paper.endswith(".md") else text))
    assert named <= targets()


@pytest.mark.parametrize("line", ["make demo", "make test"])
def test_the_readme_names_both_commands(line: str) -> None:
    assert re.search(rf"^{line}\b", README, re.MULTILINE)


def test_the_readme_names_no_subcommand_that_is_not_there() -> None:
    from app.__main__ import app as command

    # Groups are named with their subcommand: `candour client add`.
    group = typer.main.get_command(command)
    names: dict[str, Any] = dict(getattr(group, "commands", {}))
    named = re.findall(r"\bcandour ([a-z]+)(?: ([a-z]+))?", code(README))
    assert names
    assert named
    for name, second in named:
        assert name in names, f"candour {name}"
        below = getattr(names[name], "commands", None)
        assert below is None or second in below, f"candour {name} {second}"


def variable(name: str) -> str:
    """The environment variable that sets a field of Settings."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"CANDOUR_{name.upper()}"


def test_every_setting_is_in_the_readme() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", README, re.MULTILINE))
    fields = {variable(name): field for name, field in Settings.model_fields.items()}
    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        if field.default not in (None, ""):
            assert rows[name] == f"`{field.default}`", f"the README gives another default for {name}"


@pytest.mark.parametrize("word", ["custodian", "node", "source", "person", "compartment", "caller", "provision",
                                  "directive", "decision", "residual", "entry", "leaf", "tree head", "checkpoint",
                                  "receipt", "disclosure", "submission", "manifest"])  # fmt: skip
def test_every_word_of_the_house_is_in_the_glossary(word: str) -> None:
    glossary = README.split("## Glossary")[1].split("\n## ")[0]
    assert re.search(rf"^\| [^|]*\*\*{word}\*\*", glossary, re.MULTILINE)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 100])
def test_the_readme_tells_how_to_compute_the_root_without_us(size: int) -> None:
    program = re.search(r"```python\n(import sys\n.*?)```", README, re.DOTALL)
    assert program is not None
    leaves = [b"leaf %d" % index for index in range(size)]
    ran = subprocess.run(
        [sys.executable, "-c", program[1]],
        input="".join(leaf.hex() + "\n" for leaf in leaves),
        capture_output=True,
        check=True,
        text=True,
    )
    assert ran.stdout.strip() == f"{size}|{tree_root([leaf_hash(leaf) for leaf in leaves]).hex()}"


def test_the_layers_that_contributors_read_are_the_ones_that_are_enforced() -> None:
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    enforced = [name for layer in contract["layers"] for name in re.findall(r"\w+", layer)]
    written = (ROOT / "CONTRIBUTING.md").read_text().split("```")[1]
    listed = [name for line in written.splitlines() for name in re.findall(r"\w+", line.split("  ")[0])]
    assert listed == enforced


def test_the_readme_links_only_to_what_is_there() -> None:
    for paper in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", paper.read_text()):
            assert (paper.parent / link).exists(), f"{paper.name} links to {link}"


def test_the_image_runs_as_nobody_in_particular_and_can_be_asked_how_it_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert text.count("\nFROM ") + text.startswith("FROM ") >= 2
    assert "\nUSER 10001" in text
    assert "\nHEALTHCHECK " in text
    assert "--require-hashes" in text
    assert ".sh" not in text


def test_what_must_pass_before_a_change_lands_is_what_make_test_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text()
    assert re.search(r"^make test$", script.read_text(), re.MULTILINE)


def test_the_changelog_keeps_what_is_unreleased_and_what_is_about_security() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text
    assert "### Security" in text.split("## [Unreleased]")[1]
