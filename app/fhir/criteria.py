"""What a search asks of one parameter, as values that a store can compile (R4 search, 3.1.1.4).

Within a criterion the alternatives are OR; several criteria are AND. Token, reference and URI criteria hold the keys
under which matching resources were indexed (``app.fhir.keys``): one of them must be among the resource's.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Literal, TypeVar, get_args

from app.errors import InvalidDefinition, MalformedSearch, NotEnumerable
from app.fhir import words
from app.fhir.dates import DateComparison, Prefix, asked_span
from app.fhir.keys import fold, fresh_key64, key64, present_key
from app.fhir.positions import Circle
from app.fhir.quantities import NumberAlternative, QuantityAlternative, asked_bounds
from app.fhir.references import LiteralReference, read_reference
from app.fhir.sounds import sound_key, sounds_of
from app.fhir.terminology import ON_BOARD
from app.fhir.ucum import canonical as canonical_unit
from app.fhir.ucum import unit_of

PREFIXES: tuple[Prefix, ...] = get_args(Prefix)

Found = TypeVar("Found")

StringModifier = Literal["", "exact", "contains"]
StringComparison = StringModifier | Literal["eq", "ne", "ew", "gt", "lt", "ge", "le"]
"""Also what ``_filter`` compares strings by: folded, whole, at the end, or by code points (R4 search_filter)."""


@dataclass(frozen=True, slots=True)
class TokenCriterion:
    """``alternatives`` are (system, code): None is "any", an empty system is "none at all" (``|code``).

    ``param`` is ``subject:identifier`` when the reference's identifier is asked for.
    """

    param: str
    alternatives: tuple[tuple[str | None, str | None], ...]
    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReferenceCriterion:
    """``alternatives`` as asked; a bare id has a key for each type that the parameter may point to."""

    param: str
    alternatives: tuple[str, ...]
    keys: tuple[int, ...]
    names_the_patient: bool = False
    """It says only whose records are asked for: within those nearly every one fulfils it."""
    or_params: tuple[str, ...] = ()
    """Other parameters, any of which may refer there instead: what nominates a resource to a compartment."""

    def widened(self, patient_ids: Sequence[str]) -> "ReferenceCriterion":
        """The criterion that names the patient, also satisfied by a reference to any of these Patients."""
        params = (self.param, *self.or_params)
        more = (key64(param, "r", f"Patient/{id}") for param in params for id in patient_ids)
        keys = tuple(dict.fromkeys((*self.keys, *more)))
        return replace(self, keys=keys, names_the_patient=True)


@dataclass(frozen=True, slots=True)
class UriCriterion:
    param: str
    alternatives: tuple[str, ...]
    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DateAlternative:
    """``prefix`` of the range ``[lo, hi)``; ``app.fhir.dates.matches`` says what it finds."""

    prefix: DateComparison
    lo: datetime
    hi: datetime


@dataclass(frozen=True, slots=True)
class DateCriterion:
    """A resource matches when one of its rows for ``param`` matches one alternative."""

    param: str
    alternatives: tuple[DateAlternative, ...]


@dataclass(frozen=True, slots=True)
class LastUpdatedCriterion:
    alternatives: tuple[DateAlternative, ...]


@dataclass(frozen=True, slots=True)
class NumberCriterion:
    """A resource matches when one of its rows for ``param`` matches one alternative (``app.fhir.quantities``)."""

    param: str
    alternatives: tuple[NumberAlternative, ...]


@dataclass(frozen=True, slots=True)
class QuantityCriterion:
    """A resource matches when one of its rows for ``param`` matches one alternative (``app.fhir.quantities``)."""

    param: str
    alternatives: tuple[QuantityAlternative, ...]


@dataclass(frozen=True, slots=True)
class StringCriterion:
    """Without a modifier a row matches that starts with the text; both folded. ``exact`` compares as written."""

    param: str
    modifier: StringComparison
    alternatives: tuple[str, ...]
    """What to compare: as written for ``exact``, folded otherwise."""
    folded: tuple[str, ...]
    """Each alternative folded, in the same order."""


@dataclass(frozen=True, slots=True)
class NearCriterion:
    """A resource matches when one of its positions for ``param`` is in one of the circles."""

    param: str
    alternatives: tuple[Circle, ...]


@dataclass(frozen=True, slots=True)
class WordsCriterion:
    """``_text`` or ``_content``: the words of the resource's narrative, or of all of it, are as asked."""

    param: str
    alternatives: tuple[words.Asked, ...]

    def matches(self, resource: Mapping[str, Any]) -> bool:
        """Whether ``resource``, as parsed, is found."""
        found = words.narrative_words(resource) if self.param == "_text" else words.content_words(resource)
        return any(one.matches(found) for one in self.alternatives)


@dataclass(frozen=True, slots=True)
class IdCriterion:
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotCriterion:
    """What does not fulfil the criterion: for ``:not`` also where there is no value at all (R4 search, 3.1.1.4.10)."""

    criterion: "Criterion"


@dataclass(frozen=True, slots=True)
class EveryCriterion:
    """All of ``parts``; everything, when there are none."""

    parts: tuple["Criterion", ...]


@dataclass(frozen=True, slots=True)
class AnyCriterion:
    """One of ``parts`` at least."""

    parts: tuple["Criterion", ...]


@dataclass(frozen=True, slots=True)
class MissingCriterion:
    """``:missing=true`` finds what has no value for ``param``, ``false`` what has one."""

    param: str
    missing: bool
    key: int
    """Under which everything is kept that has a value."""


@dataclass(frozen=True, slots=True)
class CompositeCriterion:
    """Each alternative is a criterion for every component; all must be met by one and the same element."""

    param: str
    in_whole: tuple[tuple["Criterion", ...], ...]
    """As criteria of the whole resource, where those say the same; empty when they do not."""
    in_elements: tuple[tuple["Criterion", ...], ...]
    """As criteria of a single element's components; empty when no element has to be looked at."""


@dataclass(frozen=True, slots=True)
class ChainCriterion:
    """``param.inner``: refers to a resource that meets a criterion of its own type; of several types, any of them."""

    param: str
    targets: tuple[tuple[str, "Criterion"], ...]


@dataclass(frozen=True, slots=True)
class HasCriterion:
    """``_has:Type:param:inner``: one of ``resource_type`` refers here by ``param`` and meets the criterion."""

    resource_type: str
    param: str
    criterion: "Criterion"


@dataclass(frozen=True, slots=True)
class ListCriterion:
    """``_list``: named by one of these Lists, which are here."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HierarchyCriterion:
    """``:below``: a reference to one of these records or to what is a part of it; ``:above``, of what it is a part."""

    param: str
    modifier: Literal["above", "below"]
    references: tuple[str, ...]
    """Each ``Type/id``, of a type in HIERARCHIES."""


HIERARCHIES: Mapping[str, str] = {"Location": "partof", "Organization": "partof"}
"""Types of which one may be a part of another, and the parameter that says of which."""

LookedUp = ChainCriterion | HasCriterion | ListCriterion | HierarchyCriterion
"""What other resources say: to be looked up first, each under the same decision, and put as keys or ids."""

Criterion = (
    TokenCriterion
    | ReferenceCriterion
    | UriCriterion
    | DateCriterion
    | LastUpdatedCriterion
    | NumberCriterion
    | QuantityCriterion
    | StringCriterion
    | NearCriterion
    | WordsCriterion
    | IdCriterion
    | NotCriterion
    | EveryCriterion
    | AnyCriterion
    | MissingCriterion
    | CompositeCriterion
    | ChainCriterion
    | HasCriterion
    | ListCriterion
    | HierarchyCriterion
)

NOTHING = IdCriterion(())
"""What no resource fulfils."""
EVERYTHING = EveryCriterion(())
"""What every resource fulfils."""


class NotSupported(Exception):
    """Why a parameter cannot be answered; safe to show."""


def parts_of(criterion: Criterion) -> tuple[Criterion, ...]:
    """What a logical criterion is made of; nothing of any other."""
    match criterion:
        case NotCriterion(inner):
            return (inner,)
        case EveryCriterion(parts) | AnyCriterion(parts):
            return parts
    return ()


def with_parts(criterion: Criterion, parts: Sequence[Criterion]) -> Criterion:
    """The same logical criterion of other parts."""
    match criterion:
        case NotCriterion():
            [inner] = parts
            return NotCriterion(inner)
        case EveryCriterion():
            return EveryCriterion(tuple(parts))
        case AnyCriterion():
            return AnyCriterion(tuple(parts))
    return criterion


def is_looked_up(criterion: Criterion) -> bool:
    """Whether it depends on other resources, itself or a part of it."""
    return isinstance(criterion, LookedUp) or any(map(is_looked_up, parts_of(criterion)))


def is_open(criterion: Criterion) -> bool:
    """Whether no index tells what fulfils it, so that it must be settled before the store is asked."""
    return isinstance(criterion, LookedUp | WordsCriterion) or any(map(is_open, parts_of(criterion)))


# Escapes (R4 search, 3.1.1.4.8).

_ESCAPES = re.compile(r"\\(.?)", re.DOTALL)


def split(text: str, separator: str) -> list[str]:
    """``text`` cut at each ``separator`` that no backslash precedes; escapes stay in the parts."""
    parts, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == separator:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]


def unescape(name: str, text: str) -> str:
    r"""``\,`` ``\|`` ``\$`` and ``\\`` mean the character itself. Raises MalformedSearch for any other backslash."""

    def character(found: re.Match[str]) -> str:
        if found[1] not in (",", "|", "$", "\\"):
            raise MalformedSearch(
                f"{name}: a backslash stands only before a comma, |, $ or another backslash."
            )
        return found[1]

    return _ESCAPES.sub(character, text)


def escape(text: str) -> str:
    """``text`` as it must be written to mean itself."""
    return re.sub(r"[\\,|$]", r"\\\g<0>", text)


# Values. ``alternatives`` are not empty and still escaped.


def token(name: str, alternatives: Sequence[str]) -> TokenCriterion:
    """``code``, ``system|code``, ``|code`` or ``system|``. Raises MalformedSearch."""
    pairs = tuple(_token(name, text) for text in alternatives)
    return TokenCriterion(name, pairs, tuple(_token_key(name, *pair) for pair in pairs))


def _token(name: str, text: str) -> tuple[str | None, str | None]:
    parts = [unescape(name, part) for part in split(text, "|")]
    match parts:
        case [code]:
            return None, code
        case [system, code] if system or code:
            return system, code or None
        case _:
            raise MalformedSearch(f"{name}: a token is written code, system|code, |code or system|.")


def _token_key(name: str, system: str | None, code: str | None) -> int:
    if code is None:
        return key64(name, "s|", system or "")
    if system is None:
        return key64(name, "c", code)
    return key64(name, "s|c", system, code) if system else key64(name, "|c", code)


def reference(
    name: str,
    alternatives: Sequence[str],
    types: Sequence[str],
    base_url: str,
    *,
    only: str = "",
    canonical: bool = False,
) -> ReferenceCriterion:
    """``id``, ``Type/id``, a URL or a URN. A bare id means one of ``types``; raises MalformedSearch.

    ``only`` is the type of a modifier, so that ``subject:Patient=Device/1`` finds nothing. ``canonical``: the
    elements asked about hold URIs too.
    """
    texts = tuple(unescape(name, text) for text in alternatives)
    allowed = tuple(types) if not only else tuple(kind for kind in types if kind == only)
    keys: dict[int, None] = {}
    for text in texts:
        keys |= dict.fromkeys(key64(name, "r", one) for one in _spelt(text, allowed, base_url, only))
        if canonical:
            keys[key64(name, "u", text)] = None
    return ReferenceCriterion(name, texts, tuple(keys))


def hierarchy(
    name: str,
    modifier: Literal["above", "below"],
    alternatives: Sequence[str],
    types: Sequence[str],
    base_url: str,
) -> HierarchyCriterion:
    """``:above`` and ``:below`` of a reference. Raises MalformedSearch for what is in no hierarchy that is known."""
    known = [kind for kind in types if kind in HIERARCHIES]
    found: dict[str, None] = {}
    for text in alternatives:
        literal = read_reference(unescape(name, text), base_url)
        if literal.where == "here" and literal.type in known and not literal.version:
            found[literal.relative] = None
        elif _BARE_ID.fullmatch(text):
            found |= dict.fromkeys(f"{kind}/{text}" for kind in known)
        else:
            raise MalformedSearch(f"{name}:{modifier}: a {' or '.join(known)} that is kept here, by its id.")
    return HierarchyCriterion(name, modifier, tuple(found))


def _spelt(text: str, types: Sequence[str], base_url: str, only: str) -> Iterable[str]:
    """As the index spells what ``text`` may mean."""
    literal = read_reference(text, base_url)
    if only and literal.type not in (None, only):
        return ()
    if literal.where == "here":
        return (_versioned(literal),)
    return [f"{kind}/{text}" for kind in types] if _BARE_ID.fullmatch(text) else (text,)


def _versioned(literal: LiteralReference) -> str:
    return f"{literal.relative}/_history/{literal.version}" if literal.version else literal.relative


_BARE_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)


def patients_meant(
    criterion: ReferenceCriterion, types: Sequence[str], base_url: str
) -> frozenset[str] | None:
    """Ids of the Patients of ours that the alternatives mean; empty when they mean no patient.

    None when that cannot be told, or not of all alternatives: a bare id of several types, one version, a URN.
    """
    meant: list[str] = []
    for text in criterion.alternatives:
        literal = read_reference(text, base_url)
        if literal.where == "here" and literal.version is None:
            meant.append(literal.id if literal.type == "Patient" else "")
        elif tuple(types) == ("Patient",) and _BARE_ID.fullmatch(text):
            meant.append(text)
        else:
            return None
    return frozenset(meant) - {""} if "" not in meant or not any(meant) else None


def referring_to(name: str, references: Iterable[str]) -> ReferenceCriterion:
    """A reference to any of these records of ours, each ``Type/id``."""
    texts = tuple(references)
    return ReferenceCriterion(name, texts, tuple(fresh_key64(name, "r", text) for text in texts))


def in_compartment(params: Sequence[str], owner: str) -> ReferenceCriterion:
    """A reference to ``owner`` (``Type/id``) by any of ``params``, which are not empty."""
    keys = tuple(fresh_key64(param, "r", owner) for param in params)
    return ReferenceCriterion(params[0], (owner,), keys, or_params=tuple(params[1:]))


def uri(name: str, alternatives: Sequence[str]) -> UriCriterion:
    texts = tuple(unescape(name, text) for text in alternatives)
    return UriCriterion(name, texts, tuple(key64(name, "u", text) for text in texts))


def uri_below(name: str, alternatives: Sequence[str]) -> UriCriterion:
    """``:below``: the URI itself and every one that goes on from it, by whole segments."""
    texts = tuple(unescape(name, text) for text in alternatives)
    return UriCriterion(name, texts, tuple(key64(name, "u<", text.rstrip("/")) for text in texts))


def uri_above(name: str, alternatives: Sequence[str]) -> UriCriterion:
    """``:above``: the URI itself and every one that it goes on from."""
    texts = tuple(unescape(name, text) for text in alternatives)
    keys = {key64(name, "u", start): None for text in texts for start in _starts(text)}
    return UriCriterion(name, texts, tuple(keys))


def _starts(uri: str) -> Iterable[str]:
    yield uri
    for place, character in enumerate(uri):
        if character in "/|#" and place > 0:
            yield from (uri[:place], uri[: place + 1])


def of_type(name: str, alternatives: Sequence[str]) -> TokenCriterion:
    """``:of-type``: ``system|code|value`` of an Identifier and its type; all three. Raises MalformedSearch."""
    asked = tuple(_typed(name, text) for text in alternatives)
    pairs = tuple((f"{system}|{code}", value) for system, code, value in asked)
    return TokenCriterion(name, pairs, tuple(key64(name, "of-type", *one) for one in asked))


def _typed(name: str, text: str) -> tuple[str, str, str]:
    parts = [unescape(name, part) for part in split(text, "|")]
    match parts:
        case [system, code, value] if system and code and value:
            return system, code, value
        case _:
            raise MalformedSearch(f"{name}:of-type: system|code|value of an identifier's type, all three.")


def token_in(name: str, alternatives: Sequence[str]) -> TokenCriterion:
    """``:in``: a member of one of the value sets, named by their canonical URLs.

    Raises MalformedSearch for one that is not known here, or whose members are not all known.
    """
    members: dict[tuple[str, str], None] = {}
    for text in alternatives:
        found = _known(name, partial(ON_BOARD.members, unescape(name, text)))
        if found is None:
            raise MalformedSearch(f"{name}:in: the value set is not known here.")
        members |= dict.fromkeys(sorted(found))
    return _any_of(name, members)


def token_kinds(name: str, modifier: str, alternatives: Sequence[str]) -> TokenCriterion:
    """``:below`` and ``:above``: ``system|code`` and its kinds, or what it is a kind of. Raises MalformedSearch."""
    related = ON_BOARD.below if modifier == "below" else ON_BOARD.above
    members: dict[tuple[str, str], None] = {}
    for text in alternatives:
        system, code = _token(f"{name}:{modifier}", text)
        if not system or not code:
            raise MalformedSearch(f"{name}:{modifier}: system|code, both.")
        found = _known(name, partial(related, system, code))
        members |= dict.fromkeys((system, one) for one in sorted(found))
    return _any_of(name, members)


def _known(name: str, look_up: Callable[[], Found]) -> Found:
    try:
        return look_up()
    except (NotEnumerable, InvalidDefinition) as error:
        raise MalformedSearch(f"{name}: {error}") from error


def _any_of(name: str, members: Iterable[tuple[str, str]]) -> TokenCriterion:
    pairs = tuple(members)
    return TokenCriterion(name, pairs, tuple(fresh_key64(name, "s|c", *pair) for pair in pairs))


def missing(name: str, alternatives: Sequence[str]) -> MissingCriterion:
    """``true`` or ``false``, once. Raises MalformedSearch."""
    match alternatives:
        case ["true" | "false" as said]:
            return MissingCriterion(name, said == "true", present_key(name))
        case _:
            raise MalformedSearch(f"{name}:missing: true or false.")


def dates(name: str, alternatives: Sequence[str]) -> tuple[DateAlternative, ...]:
    """``[prefix]YYYY[-MM[-DD[Thh:mm[:ss[.s]][zone]]]]``. Raises MalformedSearch, also for a day that is none."""
    return tuple(_date(name, unescape(name, text)) for text in alternatives)


def _date(name: str, text: str) -> DateAlternative:
    prefix = next((one for one in PREFIXES if text.startswith(one)), None)
    span = asked_span(text.removeprefix(prefix or ""))
    if span is None:
        raise MalformedSearch(
            f"{name}: a date is written YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+hh:mm, must exist, and may "
            f"follow one of {', '.join(PREFIXES)}."
        )
    return DateAlternative(prefix or "eq", *span)


def number(name: str, alternatives: Sequence[str]) -> NumberCriterion:
    """``[prefix]number``, plain or with an exponent. Raises MalformedSearch."""
    return NumberCriterion(name, tuple(NumberAlternative(*_number(name, text)) for text in alternatives))


def _number(name: str, text: str) -> tuple[Prefix, Decimal, Decimal]:
    text = unescape(name, text)
    prefix = next((one for one in PREFIXES if text.startswith(one)), None)
    bounds = asked_bounds(prefix or "eq", text.removeprefix(prefix or ""))
    if bounds is None:
        raise MalformedSearch(
            f"{name}: a number is written 100, 5.40, -1.5 or 1e2, less than 1e100, and may follow one of "
            f"{', '.join(PREFIXES)}."
        )
    return prefix or "eq", *bounds


def quantity(name: str, alternatives: Sequence[str]) -> QuantityCriterion:
    """``[prefix]number``, also followed by ``|system|code``, ``||code`` or ``|system|``. Raises MalformedSearch.

    A unit of UCUM stands for all that can be converted into it: ``0.0054|http://unitsofmeasure.org|g`` is 5.4 mg.
    """
    return QuantityCriterion(name, tuple(_quantity(name, text) for text in alternatives))


def _quantity(name: str, text: str) -> QuantityAlternative:
    amount, *unit = split(text, "|")
    asked = _number(name, amount)
    if not unit:
        return QuantityAlternative(*asked)
    match [unescape(name, part) for part in unit]:
        case [system, code] if (system or code) and (system + code).isprintable():
            return _of_unit(*asked, system, code)
        case _:
            raise MalformedSearch(
                f"{name}: a quantity is written number, number|system|code or number||code."
            )


def _of_unit(prefix: Prefix, lo: Decimal, hi: Decimal, system: str, code: str) -> QuantityAlternative:
    unit = unit_of(system, code)
    if unit is None:
        return QuantityAlternative(prefix, lo, hi, system, code)
    return QuantityAlternative(prefix, lo, hi, system, code, unit.of(lo), unit.of(hi), unit.unit)


def in_words(name: str, alternatives: Sequence[str]) -> WordsCriterion:
    """Words, phrases, ``and``, ``or``, ``not`` (``app.fhir.words``). Raises MalformedSearch and TooCostly."""
    return WordsCriterion(name, tuple(words.read_words(name, unescape(name, text)) for text in alternatives))


def sounding(name: str, alternatives: Sequence[str]) -> Criterion:
    """A name with a word that sounds so, for every word of one alternative. Raises MalformedSearch without a word."""
    found = [_sounding(name, unescape(name, text)) for text in alternatives]
    return found[0] if len(found) == 1 else AnyCriterion(tuple(found))


def _sounding(name: str, text: str) -> Criterion:
    every = [TokenCriterion(name, ((None, one),), (sound_key(name, one),)) for one in sounds_of(text)]
    if not every:
        raise MalformedSearch(f"{name}: at least one letter or digit is needed.")
    return every[0] if len(every) == 1 else EveryCriterion(tuple(every))


NEAR_METRES = 50_000.0
"""What is near when no distance is said."""

_DEGREES = re.compile(r"-?[0-9]{1,3}(?:\.[0-9]{1,20})?", re.ASCII)
_DISTANCE = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?", re.ASCII)


def near(name: str, alternatives: Sequence[str]) -> NearCriterion:
    """``latitude|longitude|distance|unit``; without a unit kilometres, without a distance NEAR_METRES.

    Raises MalformedSearch for a place that is nowhere, and for a unit that is none of length.
    """
    return NearCriterion(name, tuple(_circle(name, text) for text in alternatives))


def _circle(name: str, text: str) -> Circle:
    match [unescape(name, part) for part in split(text, "|")]:
        case [latitude, longitude, *rest] if _degrees(latitude, 90) and _degrees(longitude, 180):
            metres = _metres(*rest) if len(rest) <= 2 else None
            if metres is not None:
                return Circle(float(latitude), float(longitude), metres)
    raise MalformedSearch(
        f"{name}: written latitude|longitude|distance|unit: degrees from -90 to 90 and from -180 to 180, a distance of "
        "0 or more and UCUM's code of a unit of length. The last two may be left away: kilometres are meant, and 50."
    )


def _degrees(text: str, most: int) -> bool:
    return bool(_DEGREES.fullmatch(text)) and abs(Decimal(text)) <= most


def _metres(distance: str = "", unit: str = "") -> float | None:
    if not distance:
        return NEAR_METRES
    length = canonical_unit(unit or "km")
    if length is None or length.unit != "m" or not _DISTANCE.fullmatch(distance):
        return None
    return float(length.of(Decimal(distance)))


def string(name: str, modifier: StringComparison, alternatives: Sequence[str]) -> StringCriterion:
    """Raises MalformedSearch when nothing is left to compare, e.g. of an accent alone."""
    texts = tuple(unescape(name, text) for text in alternatives)
    folded = tuple(fold(text) for text in texts)
    if not all(folded):
        raise MalformedSearch(f"{name}: at least one letter, digit or sign is needed.")
    return StringCriterion(name, modifier, texts if modifier == "exact" else folded, folded)
