"""Why a source's answer cannot be used. None of these reaches a caller: the federation turns each into a line."""

from typing import ClassVar

from app.fhir.manifest import SourceState


class Unanswered(Exception):
    """The root. The text of an instance is for the log and names no patient."""

    state: ClassVar[SourceState] = SourceState.down


class Down(Unanswered):
    """Unreachable, failing, or not speaking FHIR."""


class TimedOut(Unanswered):
    state = SourceState.timed_out


class Refused(Unanswered):
    """The source's own rule, or it does not know us."""

    state = SourceState.refused


class Throttled(Unanswered):
    state = SourceState.throttled


class NoRecord(Unanswered):
    """It knows no Patient with this NHS number, or shows us none."""

    state = SourceState.no_record


class NotSupported(Unanswered):
    """It does not offer the resource type or the operation."""

    state = SourceState.not_supported


class NotUnderstood(Unanswered):
    """It would not apply every criterion: what it has is more than what was asked for, or unknown."""

    state = SourceState.partial


class IdentityUncertain(Unanswered):
    """It knows Patients with this NHS number, and none of them certainly is the person."""

    state = SourceState.identity_uncertain


class WrongPatient(IdentityUncertain):
    """It answered for another patient: the source is quarantined until a person clears it."""
