"""Tell the history of a type: what was superseded, and what was deleted, in the order in which it was written.

What is current and not deleted has such an index already. ``resource_history`` keeps each version once, at the home of
its resource, so that its index needs no condition.
"""

from app.migrate import execute

revision, down_revision = "0013", "0012"


def upgrade() -> None:
    execute("""
        CREATE INDEX resource_history_updated ON resource_history (resource_type, last_updated, id);
        CREATE INDEX resource_deleted ON resource (resource_type, last_updated, id) WHERE home AND deleted;
    """)
