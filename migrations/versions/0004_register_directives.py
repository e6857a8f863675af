"""Register patients' directives."""

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    """Filled in by the change that owns these tables."""
