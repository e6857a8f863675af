"""What a check against profiles says: errors, warnings, and what could not be checked; each once."""

from typing import Literal

from app.errors import Issue
from app.fhir.findings import MOST_ISSUES, EnoughError, Place, expression

Severity = Literal["error", "warning", "information"]

_MORE = Issue(
    "information", "incomplete", f"There are more than {MOST_ISSUES} of these; the rest is left out."
)


class Verdict:
    """Issues in the order in which they were met, without repetitions.

    ``most`` errors are enough and end the check with EnoughError; warnings and information beyond MOST_ISSUES
    are left out, and an issue says so: they never crowd out an error.
    """

    __slots__ = ("_errors", "_issues", "_most", "_remarks")

    def __init__(self, *, most: int = MOST_ISSUES) -> None:
        self._issues: dict[Issue, None] = {}
        self._errors = 0
        self._remarks = 0
        self._most = most

    @property
    def issues(self) -> list[Issue]:
        return list(self._issues)

    @property
    def conforms(self) -> bool:
        return self._errors == 0

    def error(self, code: str, place: Place, text: str) -> None:
        """The resource is not what the profile says. Raises EnoughError."""
        if self._add(Issue("error", code, text, expression(place))):
            self._errors += 1
            if self._errors >= self._most:
                raise EnoughError

    def warning(self, code: str, place: Place, text: str) -> None:
        """The resource may be meant otherwise, or a rule that can be an error was not checked."""
        self._remark(Issue("warning", code, text, expression(place)))

    def information(self, code: str, place: Place, text: str) -> None:
        self._remark(Issue("information", code, text, expression(place)))

    def say(self, severity: Severity, code: str, place: Place, text: str) -> None:
        if severity == "error":
            self.error(code, place, text)
        elif severity == "warning":
            self.warning(code, place, text)
        else:
            self.information(code, place, text)

    def _remark(self, issue: Issue) -> None:
        if self._remarks < MOST_ISSUES:
            self._remarks += self._add(issue)
        else:
            self._issues[_MORE] = None

    def _add(self, issue: Issue) -> bool:
        """Whether the issue is a new one."""
        before = len(self._issues)
        self._issues[issue] = None
        return len(self._issues) > before
