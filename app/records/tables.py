"""The tables that keep records; created by migrations/versions/0002_keep_records.py."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from app.db import metadata

_INSTANT = TIMESTAMP(timezone=True)

FACETS = (
    "custodian",
    "version",
    "last_updated",
    "deleted",
    "content",
    "also_patients",
    "confidentiality",
    "sensitivity",
    "codes",
    "kinds",
    "authors",
    "edges",
    "relevant_from",
    "relevant_until",
)
"""The columns that ``resource`` and ``resource_history`` share beside their key."""


def _facets() -> list[sa.Column[object]]:
    return [
        sa.Column("custodian", sa.Text),
        sa.Column("version", sa.Integer),
        sa.Column("last_updated", _INSTANT),
        sa.Column("deleted", sa.Boolean),
        sa.Column("content", sa.Text),
        sa.Column("also_patients", ARRAY(sa.BigInteger)),
        sa.Column("confidentiality", sa.SmallInteger),
        sa.Column("sensitivity", ARRAY(sa.Text)),
        sa.Column("codes", ARRAY(sa.BigInteger)),
        sa.Column("kinds", ARRAY(sa.BigInteger)),
        sa.Column("authors", ARRAY(sa.BigInteger)),
        sa.Column("edges", ARRAY(sa.BigInteger)),
        sa.Column("relevant_from", _INSTANT),
        sa.Column("relevant_until", _INSTANT),
    ]


def _key() -> list[sa.Column[object]]:
    return [
        sa.Column("patient_key", sa.BigInteger, primary_key=True),
        sa.Column("resource_type", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
    ]


person = sa.Table(
    "person",
    metadata,
    sa.Column("person_key", sa.BigInteger, primary_key=True),
    sa.Column("nhs_number", sa.Text),
    sa.Column("birth_date", sa.Text),
    sa.Column("consent_epoch", sa.BigInteger),
)
patient = sa.Table(
    "patient",
    metadata,
    sa.Column("patient_key", sa.BigInteger, primary_key=True),
    sa.Column("patient_id", sa.Text),
    sa.Column("person_key", sa.BigInteger),
    sa.Column("custodian", sa.Text),
)
resource_home = sa.Table(
    "resource_home",
    metadata,
    sa.Column("resource_type", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("patient_key", sa.BigInteger),
)
resource = sa.Table(
    "resource",
    metadata,
    *_key(),
    *_facets(),
    sa.Column("home", sa.Boolean),
    sa.Column("tokens", ARRAY(sa.BigInteger)),
    sa.Column("present", ARRAY(sa.BigInteger)),
    sa.Column("indexed", sa.SmallInteger),
)
resource_history = sa.Table("resource_history", metadata, *_key(), *_facets())
index_date = sa.Table(
    "index_date",
    metadata,
    sa.Column("patient_key", sa.BigInteger),
    sa.Column("resource_type", sa.Text),
    sa.Column("id", sa.Text),
    sa.Column("parameter", sa.Text),
    sa.Column("lo", _INSTANT),
    sa.Column("hi", _INSTANT),
)
index_string = sa.Table(
    "index_string",
    metadata,
    sa.Column("patient_key", sa.BigInteger),
    sa.Column("resource_type", sa.Text),
    sa.Column("id", sa.Text),
    sa.Column("parameter", sa.Text),
    sa.Column("folded", sa.Text(collation="C")),
    sa.Column("exact", sa.Text(collation="C")),
)
index_quantity = sa.Table(
    "index_quantity",
    metadata,
    sa.Column("patient_key", sa.BigInteger),
    sa.Column("resource_type", sa.Text),
    sa.Column("id", sa.Text),
    sa.Column("parameter", sa.Text),
    sa.Column("lo", sa.Numeric),
    sa.Column("hi", sa.Numeric),
    sa.Column("system", sa.Text),
    sa.Column("code", sa.Text),
    sa.Column("unit", sa.Text),
    sa.Column("comparator", sa.Text),
    sa.Column("canonical_lo", sa.Numeric),
    sa.Column("canonical_hi", sa.Numeric),
    sa.Column("canonical_unit", sa.Text),
)
index_position = sa.Table(
    "index_position",
    metadata,
    sa.Column("patient_key", sa.BigInteger),
    sa.Column("resource_type", sa.Text),
    sa.Column("id", sa.Text),
    sa.Column("parameter", sa.Text),
    sa.Column("latitude", sa.Double),
    sa.Column("longitude", sa.Double),
)
index_composite = sa.Table(
    "index_composite",
    metadata,
    sa.Column("patient_key", sa.BigInteger),
    sa.Column("resource_type", sa.Text),
    sa.Column("id", sa.Text),
    sa.Column("parameter", sa.Text),
    sa.Column("parts", JSONB),
)
