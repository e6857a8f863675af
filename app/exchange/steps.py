"""The writes of a transaction, each with the one resource that it means (R4 http, 3.1.0.11.2)."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from app.errors import BadRequest, CandourError, InvalidResource, Issue, UnsupportedMediaType, in_entry
from app.fhir.bundled import FHIR_JSON, BundleRequest, spans_of_entries
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.patching.fhirpath_patch import apply_fhirpath_patch
from app.fhir.patching.json_patch import apply_json_patch
from app.fhir.patching.narrative import with_safe_narrative
from app.fhir.text import Parsed, parse

JSON_PATCH = "application/json-patch+json"
_INSTANCE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})\Z")
_LETTERS = {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d"}


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a transaction that writes, as asked."""

    place: int
    method: str
    resource_type: str
    id: str
    """The id it will have: given in the address, or chosen by the server."""
    full_url: str | None
    text: str | None
    """Of the resource; of the patch, for a PATCH that is not yet applied."""
    criteria: str | None = None
    """Of a conditional create (``ifNoneExist``), update, patch or deletion."""
    if_match: str | None = None
    if_none_match: str | None = None
    given_id: object = None
    """What the resource has for its id."""
    is_json_patch: bool = False
    existing: bool = False
    """Whether a conditional create found the resource ``id`` here, so that nothing is written."""

    @property
    def reference(self) -> str:
        return f"{self.resource_type}/{self.id}"

    @property
    def address(self) -> tuple[str, str]:
        return self.resource_type, self.id

    @property
    def letter(self) -> str:
        """Of the scope that permits it."""
        return _LETTERS[self.method]

    @property
    def is_written(self) -> bool:
        """Whether it leaves a version behind that has a text."""
        return self.method != "DELETE" and not self.existing

    @property
    def named(self) -> in_entry:
        """Whatever is refused inside names the entry."""
        return in_entry(self.place)


def steps_of(requests: Iterable[BundleRequest]) -> list[Step]:
    """Those that write. Raises BadRequest or UnsupportedMediaType, naming the entry."""
    return [_step(one) for one in requests if not one.reads]


def loadable_steps(parsed: Parsed) -> list[Step]:
    """The entries of any Bundle as writes under the ids the resources already have, for loading from files.

    A POST keeps its resource's id, so that loading the same file twice finds what the first time left.
    """
    steps = []
    for place, (value, spans) in enumerate(spans_of_entries(parsed)):
        with in_entry(place):
            resource = value.get("resource") if isinstance(value, dict) else None
            if not isinstance(resource, dict) or "resource" not in spans:
                raise BadRequest("resource is needed.")
            resource_type, id = str(resource.get("resourceType")), str(resource.get("id") or uuid4())
            if resource_type not in RESOURCE_TYPES or not _INSTANCE.match(f"{resource_type}/{id}"):
                raise BadRequest("the resource's type or id is not one of FHIR R4.")
            request = value.get("request") or {}
            body = parsed.text[slice(*spans["resource"])]
            criteria = request.get("ifNoneExist")
            steps.append(Step(place, "POST", resource_type, id, value.get("fullUrl"), body, criteria))
    return steps


def patch_of(media_type: str, patch: bytes | str) -> Callable[[str], str]:
    """What a patch makes of a resource's text, with a narrative that is still true of it.

    Raises UnsupportedMediaType for what is neither JSON Patch nor FHIRPath Patch, or MalformedBody.
    """
    if media_type.partition(";")[0].strip().lower() == JSON_PATCH:
        return lambda text: with_safe_narrative(text, apply_json_patch(text, patch))
    parameters = parse(patch)
    return lambda text: with_safe_narrative(text, apply_fhirpath_patch(text, parameters))


def refuse_overlaps(steps: Sequence[Step]) -> None:
    """No two entries may mean the same resource, or be called the same (R4 http, 3.1.0.11.2; bundle, bdl-7)."""
    meant: dict[str, int] = {}
    called: dict[str, int] = {}
    for step in steps:
        _refuse_twice(meant, step.reference, step.place, "mean the same resource")
        if step.full_url:
            _refuse_twice(called, step.full_url, step.place, "have the same fullUrl")


def refuse_same_criteria(steps: Sequence[tuple[int, int]]) -> None:
    """``steps``: the key of each entry's criteria, and its place."""
    seen: dict[str, int] = {}
    for key, place in steps:
        _refuse_twice(seen, str(key), place, "have the same criteria, and so mean the same resource")


def _refuse_twice(seen: dict[str, int], name: str, place: int, what: str) -> None:
    first = seen.setdefault(name, place)
    if first != place:
        text = f"Bundle.entry[{first}] and Bundle.entry[{place}] {what}."
        raise Overlapping([first, place], text)


class Overlapping(BadRequest):
    """Two entries of a transaction that must not be together; both are named."""

    def __init__(self, places: Sequence[int], text: str) -> None:
        super().__init__(text)
        self._issues = tuple(Issue("error", self.code, text, f"Bundle.entry[{place}]") for place in places)


def placed(error: CandourError, place: int) -> list[Issue]:
    """The issues of an error, naming the entry."""
    error.at_entry(place)
    return list(error.issues)


def refuse(errors: Sequence[CandourError]) -> None:
    """Raises the one error, or all of them as one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise InvalidResource([issue for error in errors for issue in error.issues])


def _step(request: BundleRequest) -> Step:
    with in_entry(request.place):
        resource_type, id, criteria = _address(request)
        if request.method == "DELETE":
            text, is_json_patch = None, False
        elif request.text is None:
            raise BadRequest("resource is needed.")
        elif request.method == "PATCH":
            text, is_json_patch = _patch(request)
        else:
            text, is_json_patch = request.text, False
        if criteria is None:
            criteria = request.if_none_exist
        return Step(
            request.place,
            request.method,
            resource_type,
            id,
            request.full_url,
            text,
            criteria,
            request.if_match,
            request.if_none_match,
            request.given_id,
            is_json_patch,
        )


def _patch(request: BundleRequest) -> tuple[str, bool]:
    media_type, body = request.sent
    if media_type == FHIR_JSON:
        if request.resource_type != "Parameters":
            raise UnsupportedMediaType("A patch is a Binary with a JSON Patch, or a Parameters resource.")
        return body.decode(), False
    if media_type.partition(";")[0].strip().lower() != JSON_PATCH:
        raise UnsupportedMediaType(f"The Binary of a PATCH has the contentType {JSON_PATCH}.")
    try:
        return body.decode(), True
    except UnicodeDecodeError as error:
        raise BadRequest("The JSON Patch is not UTF-8.", expression="Binary.data") from error


def _address(request: BundleRequest) -> tuple[str, str, str | None]:
    """Type, id and the criteria of a conditional write; an id of our own until it is known."""
    kind, _, rest = request.path.partition("/")
    if request.method == "POST":
        if rest:
            raise BadRequest(
                "In a transaction a POST creates; an operation or search by POST is sent in a batch, or by itself."
            )
        if kind not in RESOURCE_TYPES or request.query:
            raise BadRequest("request.url of a POST is a resource type of FHIR R4.")
        return kind, str(uuid4()), None
    if not rest and request.query and kind in RESOURCE_TYPES:
        return kind, str(uuid4()), request.query
    found = _INSTANCE.match(request.path)
    if found is None or found[1] not in RESOURCE_TYPES or request.query:
        raise BadRequest(f"request.url of a {request.method} is [type]/[id] or [type]?[criteria].")
    return found[1], found[2], None
