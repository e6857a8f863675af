"""The default policy: readable, versioned, and never guessed at."""

from pathlib import Path

import pytest

from app.consent.policy import Policy
from app.errors import NotStarted
from app.vocabulary import PurposeOfUse

GOOD = (
    'uri = "https://p.example"\nversion = "1"\n[purpose.TREAT]\npermit = "N"\nrestricted_roles = ["R8000"]\n'
)


def test_the_shipped_policy_permits_what_is_normal_for_treatment_and_nothing_for_research() -> None:
    policy = Policy.read()
    assert policy.default_for(PurposeOfUse.TREAT).permit_up_to == 4
    assert policy.default_for(PurposeOfUse.HRESCH).permit_up_to == 0
    assert policy.never == frozenset()


def test_a_purpose_without_a_rule_sees_nothing() -> None:
    assert Policy.parse(GOOD).default_for(PurposeOfUse.HOPERAT).permit_up_to == 0


def test_its_version_tells_its_text() -> None:
    one, other = Policy.parse(GOOD), Policy.parse(GOOD + "# a word more\n")
    assert one.version.startswith("1+")
    assert one.version != other.version
    assert one.reference == f"https://p.example|{one.version}"


def test_a_named_role_sees_what_is_restricted_and_not_what_is_very_restricted() -> None:
    treatment = Policy.parse(GOOD).default_for(PurposeOfUse.TREAT)
    assert treatment.level_for(frozenset({"R8000"})) == 5
    assert treatment.level_for(frozenset({"R8001"})) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        'uri = "https://p.example"\nversion = "1"\n',
        'uri = "https://p.example"\nversion = "1"\n[purpose]\n',
        GOOD.replace("TREAT", "TREATMENT"),
        GOOD.replace('"N"', '"Q"'),
        GOOD.replace('"N"', "true"),
        GOOD.replace("permit", "allow"),
        GOOD.replace("restricted_roles", "restrictedRoles"),
        GOOD.replace('["R8000"]', '"R8000"'),
        GOOD.replace('version = "1"', 'version = ""'),
        GOOD + '[emergency]\nnever = ["SECRETS"]\n',
        GOOD + "[emergency]\nalways = []\n",
        GOOD + "extra = 1\n",
        "uri = [",
    ],
)
def test_a_broken_or_empty_policy_keeps_the_service_from_starting(text: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(NotStarted):
        Policy.read(file)


def test_a_missing_policy_keeps_the_service_from_starting(tmp_path: Path) -> None:
    with pytest.raises(NotStarted):
        Policy.read(tmp_path / "none.toml")
