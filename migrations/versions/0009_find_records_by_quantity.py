"""Find records by quantity, in the unit given and in base units, and by the values that stand together in one element.

Until now nothing searched by quantity, and the rows kept meant something else: they are removed, and written again with
all others when the records are indexed anew.
"""

from app.migrate import execute

revision, down_revision = "0009", "0008"


def upgrade() -> None:
    execute("""
        TRUNCATE index_quantity;
        ALTER TABLE index_quantity
            ADD comparator text NOT NULL DEFAULT '',
            ADD canonical_lo numeric,
            ADD canonical_hi numeric,
            ADD canonical_unit text NOT NULL DEFAULT '';
        CREATE INDEX index_quantity_type ON index_quantity (resource_type, parameter, lo, hi);
        CREATE INDEX index_quantity_canonical
            ON index_quantity (resource_type, parameter, canonical_unit, canonical_lo, canonical_hi)
            WHERE canonical_unit <> '';
        CREATE TABLE index_composite (
            patient_key bigint NOT NULL,
            resource_type text NOT NULL,
            id text NOT NULL,
            parameter text NOT NULL,
            -- One object for each component: tokens, dates, strings, quantities of one element.
            parts jsonb NOT NULL
        );
        CREATE INDEX index_composite_resource ON index_composite (patient_key, resource_type, id);
        GRANT SELECT, INSERT, DELETE ON index_composite TO candour_app;
        -- Keys of the parameters that have a value, for :missing; no index is worth its writing.
        ALTER TABLE resource ADD present bigint[] NOT NULL DEFAULT '{}';
        -- Which rules the index values of a record were written by (app.fhir.indexing.RULES).
        ALTER TABLE resource ADD indexed smallint NOT NULL DEFAULT 0;
        ALTER TABLE resource ALTER indexed SET DEFAULT 1;
        CREATE INDEX resource_indexed_before ON resource (patient_key, resource_type, id) WHERE indexed < 1;
        GRANT UPDATE (indexed, tokens, present) ON resource TO candour_app;
    """)
