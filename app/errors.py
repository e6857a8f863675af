"""Every failure a caller can see, as one tree: HTTP status, R4 issue code, text safe for anyone to read.

No text here or in a subclass holds an identifier of a patient, SQL or a traceback (ARCHITECTURE 3.8).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Issue:
    """One OperationOutcome.issue: ``severity`` and ``code`` from R4's value sets, ``expression`` a FHIRPath."""

    severity: str
    code: str
    text: str
    expression: str | None = None


class CandourError(Exception):
    """The root: whatever is not one of its named children is answered as a plain 500."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    code: ClassVar[str] = "exception"
    text: ClassVar[str] = (
        "The service failed to answer. Nothing was released. Try again; if it persists, report it."
    )

    def __init__(self, text: str | None = None, *, expression: str | None = None) -> None:
        super().__init__(text or self.text)
        self._issues: Sequence[Issue] = (Issue("error", self.code, str(self), expression),)
        self._entry: int | None = None

    @property
    def issues(self) -> Sequence[Issue]:
        if self._entry is None:
            return self._issues
        return tuple(
            replace(issue, expression=_in_entry(self._entry, issue.expression)) for issue in self._issues
        )

    def at_entry(self, place: int) -> None:
        """Says which entry of a Bundle the failure is about; the innermost to know is believed."""
        if self._entry is None:
            self._entry = place

    @property
    def headers(self) -> dict[str, str]:
        return {}


class in_entry:  # noqa: N801  # reads as a clause: ``with in_entry(place):``
    """Whatever is refused inside names its entry, e.g. ``Bundle.entry[57].resource.status``; None: there is none."""

    __slots__ = ("_place",)

    def __init__(self, place: int | None) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CandourError) and self._place is not None:
            error.at_entry(self._place)


# The request cannot be understood.


def _in_entry(place: int, expression: str | None) -> str:
    """``Observation.status`` of entry 57 as ``Bundle.entry[57].resource.status``."""
    if expression is None or expression.startswith("Bundle.entry["):
        return expression or f"Bundle.entry[{place}]"
    _, _, path = expression.partition(".")
    return f"Bundle.entry[{place}].resource" + (f".{path}" if path else "")


class BadRequest(CandourError):
    status, code, text = HTTPStatus.BAD_REQUEST, "invalid", "The request cannot be understood."


class MalformedBody(BadRequest):
    code, text = "structure", "The body is neither well-formed JSON nor XML."


class MalformedPatch(BadRequest):
    code, text = "structure", "The patch is not one that this service can read."


class MalformedSearch(BadRequest):
    code, text = "value", "A search parameter has a value of the wrong form."


class UnsupportedSearch(BadRequest):
    code, text = "not-supported", "A search parameter is not supported here."


class UnsupportedOperation(BadRequest):
    code, text = "not-supported", "This operation is not supported here."


class BrokenCursor(BadRequest):
    code, text = "value", "This page link was altered or is not one of ours. Start the search again."


class InvalidResource(CandourError):
    """A resource that breaks R4's rules; each broken rule is an issue that names its element."""

    status, code, text = (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid",
        "The resource breaks the rules of FHIR R4.",
    )

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__()
        self._issues = tuple(issues)


class BusinessRule(CandourError):
    """Well-formed and valid, and still not acceptable here."""

    status, code, text = (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "business-rule",
        "A rule of this service forbids that.",
    )


class UnprocessablePatch(CandourError):
    """Well-formed, and not applicable to the resource as it stands. Nothing of it was applied."""

    status, code, text = (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "processing",
        "The patch cannot be applied to the resource as it stands.",
    )


class UnusableProfile(BusinessRule):
    """A StructureDefinition that nothing can be checked against; the text says why."""

    code, text = "not-supported", "Nothing can be checked against this StructureDefinition."


# Who is asking, and whether they may.


class NotAuthenticated(CandourError):
    status, code = HTTPStatus.UNAUTHORIZED, "login"
    text = "A valid access token is needed. Ask the token endpoint for a new one."

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class TooManyTurnedAway(CandourError):
    """So many requests without a valid token that they are no longer recorded one by one."""

    status, code = HTTPStatus.TOO_MANY_REQUESTS, "throttled"
    text = "Too many requests came without a valid access token. Get one, and try again shortly."

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "5"}


class TooManyExports(CandourError):
    status, code = HTTPStatus.TOO_MANY_REQUESTS, "throttled"
    text = "Too many exports are being made. Wait for one to be complete, or delete one, and try again."

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "60"}


class NotPermitted(CandourError):
    status, code = HTTPStatus.FORBIDDEN, "forbidden"
    text = "The token does not permit this."


class InsufficientScope(NotPermitted):
    """``needed`` is a scope that would suffice, e.g. ``system/Observation.rs``."""

    def __init__(self, needed: str) -> None:
        super().__init__(f"The token's scopes do not permit this; {needed} would.")
        self.needed = needed

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self.needed}"'}


class NotTheCustodian(NotPermitted):
    text = "A caller writes only for its own organisation."


# What is asked for.


class NotFound(CandourError):
    """Also for what exists and is withheld: the two must not be told apart."""

    status, code, text = HTTPStatus.NOT_FOUND, "not-found", "No such resource is known here."


class UnknownType(NotFound):
    text = "That is not a resource type of FHIR R4. Types are case-sensitive."
    code = "not-supported"


class UnknownRoute(NotFound):
    text = "There is nothing at this address."


class Gone(CandourError):
    status, code, text = HTTPStatus.GONE, "deleted", "The resource was deleted."


class ExpiredCursor(Gone):
    code, text = "expired", "This page link has expired. Start the search again."


class MethodNotAllowed(CandourError):
    status, code, text = HTTPStatus.METHOD_NOT_ALLOWED, "not-supported", "This method is not offered here."

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(
            f"This method is not offered here; {', '.join(allowed)} {'is' if len(allowed) == 1 else 'are'}."
        )
        self.allowed = tuple(allowed)

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": ", ".join(self.allowed)}


class NotAcceptable(CandourError):
    status, code = HTTPStatus.NOT_ACCEPTABLE, "not-supported"
    text = "Only FHIR R4 as application/fhir+json or application/fhir+xml can be answered."


class UnsupportedMediaType(CandourError):
    status, code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-supported"
    text = "Send FHIR R4 as application/fhir+json or application/fhir+xml, in UTF-8."


class UnsupportedCoding(UnsupportedMediaType):
    text = "Send the body as it is or as gzip; no other Content-Encoding is understood here."

    @property
    def headers(self) -> dict[str, str]:
        return {"Accept-Encoding": "gzip"}


class TooLarge(CandourError):
    status, code, text = (
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-long",
        "The body is larger than this service accepts.",
    )


class TooCostly(CandourError):
    status, code = HTTPStatus.UNPROCESSABLE_ENTITY, "too-costly"
    text = "Answering this would cost too much. Narrow the question."


# Codes, and what is made of them.


class InvalidInput(BadRequest):
    """``name`` is the operation's parameter at fault."""

    text = "A parameter of the operation cannot be used."

    def __init__(self, name: str, reason: str) -> None:
        plain = name.replace("-", "").isalnum()
        place = f"Parameters.parameter.where(name = '{name}')" if plain else None
        super().__init__(f"{name}: {reason}", expression=place)
        self.name = name


class UnsupportedInput(InvalidInput):
    code = "not-supported"


class UnknownCodes(NotFound):
    text = "No such code system, value set or code is known here."


class InvalidDefinition(CandourError):
    status, code = HTTPStatus.UNPROCESSABLE_ENTITY, "invalid"
    text = "The code system or value set contradicts the rules of FHIR R4."


class NotEnumerable(CandourError):
    """What is asked has an answer, but not here: its code system, or a part of it, is not known."""

    status, code = HTTPStatus.UNPROCESSABLE_ENTITY, "not-supported"
    text = "The codes cannot be told here: not all of their code systems are known."


# State.


class Conflict(CandourError):
    status, code, text = HTTPStatus.CONFLICT, "conflict", "Another change was faster. Read again and repeat."


class PreconditionFailed(CandourError):
    status, code = HTTPStatus.PRECONDITION_FAILED, "conflict"
    text = "The resource is not in the state that the request requires."


class NotUnique(PreconditionFailed):
    code, text = "multiple-matches", "The criteria match more than one resource."


# The service itself.


class ExportFailed(CandourError):
    text = "The export could not be made. Nothing of it was released. Begin it again."


class Unavailable(CandourError):
    """Nothing was released. The caller may repeat the request."""

    status, code = HTTPStatus.SERVICE_UNAVAILABLE, "transient"
    text = "The service cannot answer safely at the moment; nothing was released. Try again shortly."

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "2"}


class DatabaseUnavailable(Unavailable):
    text = "The database cannot be reached; nothing was released. Try again shortly."


class AuditUnavailable(Unavailable):
    text = "The access cannot be recorded, so nothing was released. Try again shortly."


class Overloaded(Unavailable):
    code = "throttled"
    text = "Too many requests are waiting to be recorded; nothing was released. Try again shortly."


class NotStarted(Exception):
    """The service refuses to start; the text says why and what to do. Shown on the terminal, never over HTTP."""
