"""Find places by their position: an index over points, which says what is in a box.

Positions, and the keys of names by their sound, are written when the records are indexed anew, by the second rules.
"""

from app.migrate import execute

revision, down_revision = "0012", "0011"


def upgrade() -> None:
    execute("""
        CREATE TABLE index_position (
            patient_key bigint NOT NULL,
            resource_type text NOT NULL,
            id text NOT NULL,
            parameter text NOT NULL,
            latitude double precision NOT NULL,
            longitude double precision NOT NULL
        );
        CREATE INDEX index_position_resource ON index_position (patient_key, resource_type, id);
        CREATE INDEX index_position_place ON index_position USING gist (point(longitude, latitude));
        GRANT SELECT, INSERT, DELETE ON index_position TO candour_app;
        -- Those that the first rules indexed are to be found as well.
        DROP INDEX resource_indexed_before;
        CREATE INDEX resource_indexed_before ON resource (patient_key, resource_type, id) WHERE indexed < 2;
    """)
