"""Versions of many resources in the order in which they were written, newest first (R4 http, 3.1.0.10).

Three indexes say it for each type: of what is current, of what is deleted and of what was superseded. A page walks each
of them from where the page before ended, so that it costs what it holds, and not what is kept. A resource has one
version at an instant, so that (instant, type, id) is a place of its own: a version keeps it when it is superseded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

from app.db import Fetching, Statement
from app.fhir.dates import BEGINNING, END
from app.records.reading import Pointer
from app.records.tables import resource, resource_history
from app.vocabulary import OdsCode

_INSTANT = TIMESTAMP(timezone=True)
_TICK = timedelta(microseconds=1)
_KEY = ("patient_key", "resource_type", "id")


class Place(NamedTuple):
    """Where a version stands in the order."""

    made: datetime
    resource_type: str
    id: str


@dataclass(frozen=True, slots=True)
class Made:
    """A version, who keeps it, and when it was made.

    ``until`` when it was current; None: it is. Looked up only where a walk has a ``before``.
    """

    pointer: Pointer
    custodian: OdsCode
    made: datetime
    until: datetime | None

    @property
    def place(self) -> Place:
        return Place(self.made, self.pointer.resource_type, self.pointer.id)


@dataclass(frozen=True, slots=True)
class Walk:
    """Which versions are wanted: of ``types``, made at or after ``since`` and before ``before``, from ``after`` on."""

    types: tuple[str, ...]
    since: datetime | None = None
    before: datetime | None = None
    after: Place | None = None


async def walk(database: Fetching, asked: Walk, limit: int) -> list[Made]:
    """At most ``limit`` of them, newest first; those of one instant by type and id, backwards."""
    ends = [_end(asked, one) for one in asked.types]
    rows = await database.fetch(
        _walk(),
        types=list(asked.types),
        instants=[instant for instant, _ in ends],
        ids=[id for _, id in ends],
        since=asked.since or BEGINNING,
        ends=asked.before is not None,
        limit=limit,
    )
    return [
        Made(
            Pointer(row["resource_type"], row["id"], row["version"], row["patient_key"]),
            OdsCode(row["custodian"]),
            row["last_updated"],
            row["until"],
        )
        for row in rows
    ]


def _end(asked: Walk, resource_type: str) -> tuple[datetime, str]:
    """The bound below which the versions of one type are still to come, as (instant, id)."""
    after = asked.after
    if after is None:
        return asked.before or END, ""
    if resource_type == after.resource_type:
        return after.made, after.id
    # Types of one instant go backwards: of those before this one in the alphabet, all of the instant are to come.
    return (after.made + _TICK if resource_type < after.resource_type else after.made), ""


@lru_cache(maxsize=1)
def _walk() -> Statement:
    wanted = (
        sa.func.unnest(
            sa.bindparam("types", type_=ARRAY(sa.Text)),
            sa.bindparam("instants", type_=ARRAY(_INSTANT)),
            sa.bindparam("ids", type_=ARRAY(sa.Text)),
        )
        .table_valued(
            sa.column("resource_type", sa.Text),
            sa.column("instant", _INSTANT),
            sa.column("id", sa.Text),
        )
        .render_derived("wanted")
    )
    current = resource.c.home & ~resource.c.deleted
    deleted = resource.c.home & resource.c.deleted
    streams = sa.union_all(
        *(
            _stream(table, wanted, *conditions)
            for table, conditions in (
                (resource, (current,)),
                (resource, (deleted,)),
                (resource_history, ()),
            )
        )
    ).lateral("stream")
    found = sa.select(*streams.c).select_from(wanted.join(streams, sa.true()))
    order = (
        streams.c.last_updated.desc(),
        streams.c.resource_type.collate("C").desc(),
        streams.c.id.desc(),
    )
    limit = sa.bindparam("limit", type_=sa.BigInteger)
    page = found.order_by(*order).limit(limit).cte("page").prefix_with("MATERIALIZED")
    again = (
        page.c.last_updated.desc(),
        page.c.resource_type.collate("C").desc(),
        page.c.id.desc(),
    )
    return Statement(sa.select(*page.c, _until(page).label("until")).order_by(*again))


def _stream(table: sa.Table, wanted: Any, *conditions: sa.ColumnElement[bool]) -> Any:
    """The versions of one type in one table, by one index, backwards."""
    place = sa.tuple_(table.c.last_updated, table.c.id)
    return (
        sa.select(*(table.c[name] for name in (*_KEY, "version", "custodian", "last_updated")))
        .where(
            table.c.resource_type == wanted.c.resource_type,
            place < sa.tuple_(wanted.c.instant, wanted.c.id),
            table.c.last_updated >= sa.bindparam("since", type_=_INSTANT),
            *conditions,
        )
        .correlate(wanted)
        .order_by(table.c.last_updated.desc(), table.c.id.desc())
        .limit(sa.bindparam("limit", type_=sa.BigInteger))
    )


def _until(page: Any) -> sa.ColumnElement[Any]:
    """When the next version was made, wherever that is kept."""
    later = [
        sa.select(table.c.last_updated)
        .where(*(table.c[name] == page.c[name] for name in _KEY), table.c.version == page.c.version + 1)
        .correlate(page)
        for table in (resource, resource_history)
    ]
    found = sa.func.coalesce(*(one.scalar_subquery() for one in later))
    return sa.case((sa.bindparam("ends", type_=sa.Boolean), found), else_=sa.null())


def saved(place: Place) -> Sequence[str]:
    """For a page link; ``restored`` gives the same place back."""
    return place.made.isoformat(), place.resource_type, place.id


def restored(parts: Sequence[str]) -> Place:
    return Place(datetime.fromisoformat(parts[0]), parts[1], parts[2])
