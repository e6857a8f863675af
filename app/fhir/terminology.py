"""What codes mean here: code systems and value sets, those published with R4 and any given besides.

Answers are those of R4's operations $expand, $validate-code, $lookup and $subsumes, and of the search modifiers
``:in``, ``:not-in``, ``:above`` and ``:below``. Nothing is looked up elsewhere: what the known code systems do not tell
is refused with a sentence, never answered in part.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from app.errors import NotEnumerable
from app.fhir import packaged
from app.fhir.concepts import CodeSystem, Concept, Designation, read_code_system
from app.fhir.keys import fold
from app.fhir.membership import Contained, Decision, Enumeration, Key, Undecided, contained
from app.fhir.nodes import shown
from app.fhir.packaged import Kind
from app.fhir.valuesets import Part, ValueSet, read_value_set

_MOST_KEPT: Final = 256
"""Value sets whose members are kept at hand."""

Subsumption = Literal["equivalent", "subsumes", "subsumed-by", "not-subsumed"]


@dataclass(frozen=True, slots=True)
class Coding:
    """A code as a caller names it."""

    system: str | None
    code: str
    version: str | None = None
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Expansion:
    """A value set's codes, flat, and the page of them that was asked for."""

    codes: tuple[Contained, ...]
    """On all pages."""
    offset: int
    count: int | None
    systems: tuple[CodeSystem, ...]
    """Code systems that concepts were taken from, in the versions that were used."""
    is_closed: bool
    """False when a code system is known in part only, so that there are more codes than listed."""

    @property
    def total(self) -> int:
        return len(self.codes)

    @property
    def contains(self) -> tuple[Contained, ...]:
        """The page."""
        return self.codes[self.offset : None if self.count is None else self.offset + self.count]


@dataclass(frozen=True, slots=True)
class Validation:
    """``message`` says why not, or what else is to be known; ``display`` is what the code is called here."""

    result: bool
    message: str | None = None
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    system: CodeSystem
    concept: Concept
    children: tuple[str, ...]


class Terminology:
    """The tables of this package and, over them, CodeSystem and ValueSet resources as parsed JSON.

    Of several versions under one URL the newest counts, ``URL|version`` picks one; of two with the same version the one
    given last. Resources are read when they are first asked for, and then may raise InvalidDefinition.
    """

    def __init__(self, resources: Iterable[Mapping[str, object]] = ()) -> None:
        self._given: dict[tuple[str, str], dict[str | None, Mapping[str, object]]] = {}
        for resource in resources:
            match resource:
                case {"resourceType": ("CodeSystem" | "ValueSet") as kind, "url": str(url)} if url:
                    version = resource.get("version")
                    versions = self._given.setdefault((kind, url), {})
                    versions[version if isinstance(version, str) else None] = resource
        # Plain dictionaries: what refers to itself would wait for the garbage collector.
        self._systems: dict[tuple[str, str | None], CodeSystem] = {}
        self._value_sets: dict[tuple[str, str | None], ValueSet] = {}
        self._members: dict[str, frozenset[Key]] = {}

    # Definitions

    def code_system(self, canonical: str) -> CodeSystem | None:
        """By URL or URL|version, compared as they are written; None when it is not known in that version."""
        url, version = self._chosen("CodeSystem", canonical)
        given = self._given.get(("CodeSystem", url), {}).get(version)
        if given is None:
            return packaged.packaged_code_system(url)
        if (url, version) not in self._systems:
            self._systems[url, version] = read_code_system(given)
        return self._systems[url, version]

    def value_set(self, canonical: str) -> ValueSet | None:
        """Otherwise as ``code_system``; also the value set of all codes that a code system names as its own."""
        url, version = self._chosen("ValueSet", canonical)
        given = self._given.get(("ValueSet", url), {}).get(version)
        if given is None:
            return packaged.packaged_value_set(url) if url else self._whole_system(canonical)
        if (url, version) not in self._value_sets:
            self._value_sets[url, version] = read_value_set(given)
        return self._value_sets[url, version]

    def _chosen(self, kind: Kind, canonical: str) -> tuple[str, str | None]:
        """URL and version of what is known as ``canonical``; an empty URL when nothing is."""
        if known := self._versions(kind, canonical):
            # First: some of v2's tables have a bar in their URLs.
            return canonical, max(known, key=lambda version: (_age(version), version or ""))
        url, _, version = canonical.partition("|")
        return (url, version) if version in self._versions(kind, url) else ("", None)

    def _versions(self, kind: Kind, url: str) -> frozenset[str | None]:
        published = packaged.index().get((kind, url))
        given = frozenset(self._given.get((kind, url), ()))
        return given if published is None else given | {published.version}

    def _whole_system(self, canonical: str) -> ValueSet | None:
        url, _, version = canonical.partition("|")
        named = [one for kind, one in self._given if kind == "CodeSystem" and self._names(one, url)]
        for system in (*named, packaged.whole_systems().get(url)):
            found = self.code_system(f"{system}|{version}" if version else system) if system else None
            if found is not None and found.value_set == url:
                part = Part(found.url, found.version)
                return ValueSet(url, (part,), version=found.version, name=found.name, title=found.title)
        return None

    def _names(self, system: str, value_set: str) -> bool:
        return any(one.get("valueSet") == value_set for one in self._given["CodeSystem", system].values())

    # Value sets

    def expand(
        self,
        value_set: ValueSet,
        *,
        filter: str = "",
        offset: int = 0,
        count: int | None = None,
        active_only: bool = False,
        selectable_only: bool = False,
        without_systems: Iterable[str] = (),
        language: str | None = None,
    ) -> Expansion:
        """A page of the codes of ``value_set``, in the order of its definition.

        ``filter``: every word of it begins a word of the display, of a designation or of the code. ``selectable_only``
        leaves out abstract codes, ``without_systems`` those of some URLs. ``language`` (BCP 47) chooses displays where
        there are designations in it. Raises NotEnumerable, TooCostly and InvalidDefinition; in part is no answer.
        """
        enumeration = Enumeration(self)
        words, hidden = _beginnings(filter), frozenset(without_systems)
        found = tuple(
            _in_language(language, one)
            for one in enumeration.of(value_set).values()
            if not (active_only and one.is_inactive)
            and not (selectable_only and one.is_abstract)
            and one.system not in hidden
            and _has_words(one, words)
        )
        systems = tuple(enumeration.systems.values())
        return Expansion(found, offset, count, systems, enumeration.is_closed)

    def members(self, canonical: str) -> frozenset[Key] | None:
        """(system, code) of every member of a value set, for ``:in`` and ``:not-in``; None when it is not known.

        Raises NotEnumerable, also when a code system is known in part only, TooCostly and InvalidDefinition.
        """
        if canonical in self._members:
            return self._members[canonical]
        value_set = self.value_set(canonical)
        if value_set is None:
            return None
        enumeration = Enumeration(self)
        found = frozenset(enumeration.of(value_set))
        if not enumeration.is_closed:
            raise NotEnumerable(f"Only a part of the codes of {shown(canonical)} is known here.")
        if len(self._members) >= _MOST_KEPT:
            self._members.clear()
        self._members[canonical] = found
        return found

    def validate_code(
        self,
        value_set: ValueSet,
        codings: Sequence[Coding],
        *,
        allow_abstract: bool = False,
        language: str | None = None,
    ) -> Validation:
        """Whether one of ``codings`` is in ``value_set`` and is called what it is called there.

        Raises NotEnumerable when that cannot be told, TooCostly and InvalidDefinition.
        """

        def checked(coding: Coding) -> Validation | Undecided:
            return self._in_value_set(value_set, coding, allow_abstract, language)

        return _best([checked(coding) for coding in codings])

    def validate_in_system(
        self,
        system: CodeSystem,
        codings: Sequence[Coding],
        *,
        allow_abstract: bool = False,
        language: str | None = None,
    ) -> Validation:
        """Whether one of ``codings`` is a code of ``system``; otherwise as ``validate_code``."""

        def checked(coding: Coding) -> Validation | Undecided:
            if coding.system != system.url:
                return Validation(False, f"The system is not {shown(system.url)}.")
            if coding.version and coding.version != system.version:
                return Undecided(f"Version {shown(coding.version)} of {shown(system.url)} is not known here.")
            concept = system.concept(coding.code)
            if not system.is_present or (concept is None and not system.is_complete):
                return Undecided(f"Not all codes of {shown(system.url)} are known here.")
            if concept is None:
                return Validation(False, f"There is no such code in {shown(system.url)}.")
            return _named(contained(system.url, concept), coding, allow_abstract, language)

        return _best([checked(coding) for coding in codings])

    def _in_value_set(
        self, value_set: ValueSet, coding: Coding, allow_abstract: bool, language: str | None
    ) -> Validation | Undecided:
        if not coding.system:
            return Validation(False, "A code without a system is in no value set.")
        system = self.code_system(coding.system)
        if coding.version and system is not None and system.is_present:
            system = self.code_system(f"{coding.system}|{coding.version}")
            if system is None:
                return Undecided(
                    f"Version {shown(coding.version)} of {shown(coding.system)} is not known here."
                )
        concept = system.concept(coding.code) if system else None
        code = concept.code if concept else coding.code
        answer = Decision(self, coding.system, code).in_value_set(value_set)
        if isinstance(answer, Undecided):
            return answer
        if not answer:
            return Validation(
                False, _why_not(system, concept, coding.system), concept.display if concept else None
            )
        return _named(self._held(value_set, coding.system, code, concept), coding, allow_abstract, language)

    def _held(self, value_set: ValueSet, system: str, code: str, concept: Concept | None) -> Contained:
        """The code with what the value set itself says of it. An imported one's own words are not looked for."""
        parts = (*value_set.includes, *(value_set.expansion or ()))
        listed = (one for part in parts if part.system == system for one in part.listed if one.code == code)
        return contained(system, concept or Concept(code), next(listed, None))

    # Code systems

    def lookup(self, system: str, code: str) -> Lookup | None:
        """``system`` may be URL|version. None when the code system or the code is not known."""
        found = self.code_system(system)
        concept = found.concept(code) if found else None
        if found is None or concept is None:
            return None
        return Lookup(found, concept, found.children.get(concept.code, ()))

    def subsumption(self, system: CodeSystem, a: str, b: str) -> Subsumption | None:
        """How ``a`` stands to ``b``; None when one of them is not known. Raises NotEnumerable as ``below``."""
        first, second = system.concept(a), system.concept(b)
        if first is None or second is None:
            return None
        if first.code == second.code:
            return "equivalent"
        if system.subsumes(first.code, second.code):
            return "subsumes"
        return "subsumed-by" if system.subsumes(second.code, first.code) else "not-subsumed"

    def below(self, system: str, code: str) -> frozenset[str]:
        """``code`` and every kind of it, for ``:below``; itself alone when the code system has no such code.

        Raises NotEnumerable when the code system is not known, or in part only, or its hierarchy means something else.
        """
        found = self._whole(system)
        concept = found.concept(code)
        return found.descendants(concept.code) | {concept.code} if concept else frozenset({code})

    def above(self, system: str, code: str) -> frozenset[str]:
        """``code`` and everything that it is a kind of, for ``:above``; otherwise as ``below``."""
        found = self._whole(system)
        concept = found.concept(code)
        return found.ancestors(concept.code) | {concept.code} if concept else frozenset({code})

    def _whole(self, system: str) -> CodeSystem:
        found = self.code_system(system)
        if found is None or not found.is_complete:
            raise NotEnumerable(f"Not all codes of {shown(system)} are known here.")
        return found


ON_BOARD = Terminology()
"""What is published with R4, alone. Nothing is read before it is asked for."""


def _age(version: str | None) -> tuple[tuple[int, int, str], ...]:
    """Sorts versions from old to new: numbers as numbers, ``1.0.0-beta`` before ``1.0.0``, none before any."""
    if version is None:
        return ()
    parts = re.findall(r"[0-9]+|[^0-9.\-+_/]+", version)
    return (*(_part_age(part) for part in parts), (1, 0, ""))


def _part_age(part: str) -> tuple[int, int, str]:
    digits = part.lstrip("0") if part[0] in "0123456789" else None
    return (0, 0, part) if digits is None else (2, len(digits), digits)


def _beginnings(text: str) -> list[re.Pattern[str]]:
    """For every word of ``text``, where a word begins with it."""
    return [re.compile(rf"\b{word}") for word in re.findall(r"\w+", fold(text))]


def _has_words(one: Contained, beginnings: Sequence[re.Pattern[str]]) -> bool:
    if not beginnings:
        return True
    said = fold(" ".join((one.code, one.display or "", *(said.value for said in one.designations))))
    return all(beginning.search(said) for beginning in beginnings)


def said_in(language: str, designations: Iterable[Designation]) -> str | None:
    """The first that is in ``language`` (BCP 47): ``de`` also finds ``de-CH``."""
    wanted = language.casefold()
    for said in designations:
        found = (said.language or "").casefold()
        if found == wanted or found.startswith(wanted + "-"):
            return said.value
    return None


def _in_language(language: str | None, one: Contained) -> Contained:
    said = said_in(language, one.designations) if language else None
    return one if said is None else replace(one, display=said)


def _why_not(system: CodeSystem | None, concept: Concept | None, url: str) -> str:
    if system is not None and system.is_complete and concept is None:
        return f"There is no such code in {shown(url)}."
    return "The code is not in the value set."


def _named(one: Contained, coding: Coding, allow_abstract: bool, language: str | None) -> Validation:
    display = _in_language(language, one).display
    if one.is_abstract and not allow_abstract:
        return Validation(
            False, "The code is abstract: it groups others and is not meant to be chosen.", display
        )
    if coding.display and not _is_called(one, coding.display):
        if one.display:
            return Validation(False, "The display is none of those that the code has.", display)
        return Validation(True, "The code has no display here; the one given could not be checked.")
    return Validation(True, "The code is inactive." if one.is_inactive else None, display)


def _is_called(one: Contained, display: str) -> bool:
    names = {" ".join(text.casefold().split()) for text in _names_of(one)}
    return " ".join(display.casefold().split()) in names


def _names_of(one: Contained) -> Iterable[str]:
    yield from (said.value for said in one.designations)
    if one.display:
        yield one.display


def _best(answers: Sequence[Validation | Undecided]) -> Validation:
    """The first yes; without one it must be certain that there is none."""
    certain = [answer for answer in answers if isinstance(answer, Validation)]
    for answer in certain:
        if answer.result:
            return answer
    for open_ in answers:
        if isinstance(open_, Undecided):
            raise NotEnumerable(open_.reason)
    return certain[0] if certain else Validation(False, "There is no code to be checked.")
