"""Which codes a value set holds: all of them, or whether one is among them (R4 valueset, composition rules).

A part takes the codes of its system that are listed, that pass all filters, or all of them; where it names value sets,
only those that are in every one of these. (The element's definition in R4 says union; the composition rules on the page
and HL7's own expansion of action-participant-role say intersection.) What includes take together, excludes take away.

Both questions answer what is certain or say what is missing: a code system that is not known makes a list no shorter.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from app.errors import InvalidDefinition, NotEnumerable, TooCostly
from app.fhir.concepts import CodeSystem, Concept, Designation
from app.fhir.filters import test_of
from app.fhir.nodes import shown
from app.fhir.valuesets import Listed, Part, ValueSet

MOST_STEPS = 400_000
"""Concepts looked at for one answer. All of R4's have some 20,000."""

DEEPEST_IMPORT = 32


class Catalogue(Protocol):
    """Where code systems and value sets are found by their canonicals: URL, or URL|version."""

    def code_system(self, canonical: str) -> CodeSystem | None: ...

    def value_set(self, canonical: str) -> ValueSet | None: ...


@dataclass(frozen=True, slots=True)
class Contained:
    """A code of a value set, with what is known of it."""

    system: str
    code: str
    display: str | None
    designations: tuple[Designation, ...] = ()
    is_abstract: bool = False
    is_inactive: bool = False


Key = tuple[str, str]
"""System and code."""
Codes = Mapping[Key, Contained]


@dataclass(slots=True)
class Work:
    """What an answer has cost so far, however deep value sets are parts of one another."""

    steps: int = 0

    def step(self, count: int) -> None:
        self.steps += count
        if self.steps > MOST_STEPS:
            raise TooCostly("The value set takes more codes together than is done at once.")


@dataclass(slots=True)
class Enumeration:
    """The content of value sets, for one answer."""

    catalogue: Catalogue
    systems: dict[str, CodeSystem] = field(default_factory=dict)
    """Code systems that concepts were taken from, by URL and version."""
    is_closed: bool = True
    """Whether no code system was asked for all its codes of which only a part is known."""
    _work: Work = field(default_factory=Work)
    _path: list[str] = field(default_factory=list)
    _imported: dict[str, Codes] = field(default_factory=dict)

    def of(self, value_set: ValueSet) -> Codes:
        """All codes in the order of the definition. Raises NotEnumerable, TooCostly and InvalidDefinition."""
        try:
            return self._defined(value_set)
        except NotEnumerable:
            if value_set.expansion is None:
                raise
            return self._together(value_set.expansion)

    def _defined(self, value_set: ValueSet) -> Codes:
        _check_defined(value_set)
        found = dict(self._together(value_set.includes))
        for part in value_set.excludes:
            for key in self._taken_away(part, found):
                del found[key]
        if value_set.inactive is False:
            return {key: one for key, one in found.items() if not one.is_inactive}
        return found

    def _together(self, parts: Iterable[Part]) -> Codes:
        found: dict[Key, Contained] = {}
        for part in parts:
            for key, one in self._part(part).items():
                found.setdefault(key, one)
        return found

    def _taken_away(self, part: Part, codes: Codes) -> list[Key]:
        if _takes_whole_system(part):
            return [key for key in codes if key[0] == part.system]
        try:
            excluded = self._part(part)
        except NotEnumerable:
            return [key for key in codes if self._is_certainly_in(part, key)]
        return [key for key in codes if key in excluded]

    def _is_certainly_in(self, part: Part, key: Key) -> bool:
        answer = Decision(self.catalogue, *key, self._work).in_part(part)
        if isinstance(answer, Undecided):
            raise NotEnumerable(answer.reason)
        return answer

    def _part(self, part: Part) -> Codes:
        sets = [self._import(canonical) for canonical in part.value_sets]
        if part.system is None:
            first, *others = sets
        elif part.is_whole_system and sets and not _is_present(_system(self.catalogue, part)):
            first, others = {key: one for key, one in sets[0].items() if key[0] == part.system}, sets[1:]
        else:
            first, others = self._selected(part), sets
        self._work.step(1 + len(first))
        return {key: one for key, one in first.items() if all(key in other for other in others)}

    def _import(self, canonical: str) -> Codes:
        if canonical not in self._imported:
            value_set = _imported(self.catalogue, canonical, self._path)
            self._path.append(canonical)
            try:
                self._imported[canonical] = self.of(value_set)
            finally:
                self._path.pop()
        return self._imported[canonical]

    def _selected(self, part: Part) -> Codes:
        system = _system(self.catalogue, part)
        if system is not None and system.is_present:
            self.systems[f"{system.url}|{system.version or ''}"] = system
        if part.listed:
            return {(part.system or "", one.code): one for one in _listed(part, system)}
        if system is None or not system.is_present:
            raise NotEnumerable(_absent(part))
        self.is_closed = self.is_closed and system.is_complete
        return {(system.url, one.code): contained(system.url, one) for one in self._passing(part, system)}

    def _passing(self, part: Part, system: CodeSystem) -> Iterator[Concept]:
        self._work.step(len(system.concepts) * (1 + len(part.filters)))
        tests = [test_of(one, system) for one in part.filters]
        return (one for one in system.concepts.values() if all(test(one) for test in tests))


def contained(system: str, concept: Concept, listed: Listed | None = None) -> Contained:
    """A concept as a value set holds it; what the value set says of it comes first."""
    return Contained(
        system,
        concept.code,
        (listed.display if listed else None) or concept.display,
        (*(listed.designations if listed else ()), *concept.designations),
        concept.is_abstract,
        concept.is_inactive,
    )


def _listed(part: Part, system: CodeSystem | None) -> Iterator[Contained]:
    """A code that its code system does not have is not there, whoever lists it."""
    for one in part.listed:
        found = system.concept(one.code) if _is_present(system) and system else None
        if found is not None:
            yield contained(part.system or "", found, one)
        elif system is None or not system.is_complete:
            yield Contained(part.system or "", one.code, one.display, one.designations)


# Whether one code is among them.


@dataclass(frozen=True, slots=True)
class Undecided:
    """Neither yes nor no: ``reason`` says what would have to be known."""

    reason: str


Answer = bool | Undecided


@dataclass(slots=True)
class Decision:
    """Whether a code is in value sets, without taking all their codes together."""

    catalogue: Catalogue
    system: str
    code: str
    _work: Work = field(default_factory=Work)
    _path: list[str] = field(default_factory=list)
    _imported: dict[str, Answer] = field(default_factory=dict)

    def in_value_set(self, value_set: ValueSet) -> Answer:
        """Raises TooCostly and InvalidDefinition."""
        answer = self._defined(value_set)
        if isinstance(answer, Undecided) and value_set.expansion is not None:
            return _any(self.in_part(part) for part in value_set.expansion)
        return answer

    def _defined(self, value_set: ValueSet) -> Answer:
        try:
            _check_defined(value_set)
        except NotEnumerable as error:
            return Undecided(str(error))
        included = _any(self.in_part(part) for part in value_set.includes)
        if included is False:
            return False
        excluded = _any(self._is_taken_away(part) for part in value_set.excludes)
        if excluded is True or (value_set.inactive is False and self._is_inactive()):
            return False
        return included if excluded is False else excluded

    def _is_taken_away(self, part: Part) -> Answer:
        return part.system == self.system if _takes_whole_system(part) else self.in_part(part)

    def in_part(self, part: Part) -> Answer:
        if part.system is not None and part.system != self.system:
            return False
        answers = (self._import(canonical) for canonical in part.value_sets)
        return _all(chain((self._selects(part),), answers))

    def _import(self, canonical: str) -> Answer:
        if canonical not in self._imported:
            self._imported[canonical] = self._in_import(canonical)
        return self._imported[canonical]

    def _in_import(self, canonical: str) -> Answer:
        try:
            value_set = _imported(self.catalogue, canonical, self._path)
        except NotEnumerable as error:
            return Undecided(str(error))
        self._path.append(canonical)
        answer = self.in_value_set(value_set)
        self._path.pop()
        return answer

    def _selects(self, part: Part) -> Answer:
        if part.system is None:
            return True
        system = _system(self.catalogue, part)
        if part.listed:
            self._work.step(len(part.listed))
            return any(one.code == self.code for one in _listed(part, system))
        if system is None or not system.is_present:
            return True if part.is_whole_system and part.value_sets else Undecided(_absent(part))
        concept = system.concept(self.code)
        if concept is None:
            return False if system.is_complete else Undecided(_in_part_only(system))
        self._work.step(1 + len(system.concepts) * len(part.filters))
        return _passes(part, system, concept)

    def _is_inactive(self) -> bool:
        found = self.catalogue.code_system(self.system)
        concept = found.concept(self.code) if found else None
        return concept is not None and concept.is_inactive


def _passes(part: Part, system: CodeSystem, concept: Concept) -> Answer:
    try:
        return all(test_of(one, system)(concept) for one in part.filters)
    except NotEnumerable as error:
        return Undecided(str(error))


def _any(answers: Iterable[Answer]) -> Answer:
    """As far as is needed: one yes decides."""
    open_: Answer = False
    for answer in answers:
        if answer is True:
            return True
        open_ = answer if open_ is False else open_
    return open_


def _all(answers: Iterable[Answer]) -> Answer:
    open_: Answer = True
    for answer in answers:
        if answer is False:
            return False
        open_ = answer if open_ is True else open_
    return open_


# What both ask.


def _check_defined(value_set: ValueSet) -> None:
    if not value_set.includes:
        raise NotEnumerable(f"{_named(value_set)} does not say what is in it.")
    # The versions of that day are not kept.
    if value_set.locked and any(
        part.system and not part.version and not part.listed for part in value_set.includes
    ):
        raise NotEnumerable(
            f"{_named(value_set)} wants code systems as they were on {shown(value_set.locked)}."
        )


def _takes_whole_system(part: Part) -> bool:
    """An exclude that leaves nothing of a code system needs to know none of its codes."""
    return part.is_whole_system and part.version is None and not part.value_sets


def _named(value_set: ValueSet) -> str:
    return f"The value set {shown(value_set.url)}" if value_set.url else "The value set"


def _system(catalogue: Catalogue, part: Part) -> CodeSystem | None:
    if part.version in (None, "*"):
        return catalogue.code_system(part.system or "")
    return catalogue.code_system(f"{part.system}|{part.version}")


def _is_present(system: CodeSystem | None) -> bool:
    return system is not None and system.is_present


def _imported(catalogue: Catalogue, canonical: str, path: Iterable[str]) -> ValueSet:
    above = tuple(path)
    if canonical in above:
        raise InvalidDefinition(f"The value set {shown(canonical)} is a part of itself.")
    if len(above) >= DEEPEST_IMPORT:
        raise TooCostly(f"Value sets are taken together no deeper than {DEEPEST_IMPORT} levels.")
    found = catalogue.value_set(canonical)
    if found is None:
        raise NotEnumerable(f"The value set {shown(canonical)}, which is a part of it, is not known here.")
    return found


def _absent(part: Part) -> str:
    version = f", version {shown(part.version)}," if part.version else ""
    named = f"{shown(part.system or '')}{version}"
    return f"The codes of {named} are not known here, and not all that are meant are listed."


def _in_part_only(system: CodeSystem) -> str:
    return f"Only a part of {shown(system.url)} is known here, and the code is not in it."
