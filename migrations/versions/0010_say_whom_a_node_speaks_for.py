"""Say whom a node speaks for: it may pass on the questions of its own organisation and of those named here, no other.

A node that was registered before speaks for its own organisation only, until more are named.
"""

from app.migrate import execute

revision, down_revision = "0010", "0009"


def upgrade() -> None:
    execute("""
        ALTER TABLE client ADD speaks_for text[] NOT NULL DEFAULT '{}';
        ALTER TABLE client ADD CHECK (kind = 'node' OR speaks_for = '{}');
    """)
