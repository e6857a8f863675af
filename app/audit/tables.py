"""The audit log's tables, as far as statements are built over them (created by migration 0005)."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, UUID

from app.db import metadata

leaves: Final = sa.Table(
    "audit_leaf",
    metadata,
    sa.Column("idx", sa.BigInteger, primary_key=True),
    sa.Column("entry_id", UUID(as_uuid=True), nullable=False, unique=True),
    sa.Column("leaf", BYTEA, nullable=False),
    sa.Column("leaf_hash", BYTEA, nullable=False),
)
"""Level 0 of the tree: permanent, and free of personal data."""

bodies: Final = sa.Table(
    "audit_body",
    metadata,
    sa.Column("idx", sa.BigInteger, primary_key=True),
    sa.Column("recorded", sa.DateTime(timezone=True), nullable=False),
    sa.Column("patient_key", sa.BigInteger, nullable=False),
    sa.Column("person_key", sa.BigInteger, nullable=False),
    sa.Column("client_id", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("interaction", sa.Text, nullable=False),
    sa.Column("trace_id", UUID(as_uuid=True), nullable=False),
    sa.Column("psn", sa.BigInteger, nullable=False),
    sa.Column("link_salt", BYTEA, nullable=False),
    sa.Column("body", BYTEA),
    sa.Column("salt", BYTEA),
)
"""The exact bytes of each AuditEvent, what it is found by, and the salts of its commitments."""

head: Final = sa.Table(
    "audit_head",
    metadata,
    sa.Column("single", sa.Boolean, primary_key=True),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("frontier", BYTEA, nullable=False),
    sa.Column("root", BYTEA, nullable=False),
    sa.Column("last_time", sa.BigInteger, nullable=False),
)
"""One row: the tree. Written by ``audit_grow`` alone."""

patient_heads: Final = sa.Table(
    "audit_patient_head",
    metadata,
    sa.Column("patient_key", sa.BigInteger, primary_key=True),
    sa.Column("psn", sa.BigInteger, nullable=False),
    sa.Column("commitment", BYTEA, nullable=False),
)
"""The last link of each patient's chain: a cache."""
