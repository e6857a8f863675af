"""Keep records: persons, local Patients, resources with their index values, and every superseded version.

Keys of patient-owned tables start with the patient, so that the schema distributes by it (ARCHITECTURE 3.6).
``resource_home`` is the one directory from (type, id) to the patient.
"""

from app.migrate import execute

revision, down_revision = "0002", "0001"

_FACETS = """
    custodian text NOT NULL,
    version integer NOT NULL,
    last_updated timestamptz NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    content text,
    -- facets: what a decision looks at, so that it never has to parse the text
    also_patients bigint[] NOT NULL DEFAULT '{}',
    confidentiality smallint NOT NULL DEFAULT 0,
    sensitivity text[] NOT NULL DEFAULT '{}',
    codes bigint[] NOT NULL DEFAULT '{}',
    kinds bigint[] NOT NULL DEFAULT '{}',
    authors bigint[] NOT NULL DEFAULT '{}',
    edges bigint[] NOT NULL DEFAULT '{}',
    relevant_from timestamptz,
    relevant_until timestamptz
"""


def upgrade() -> None:
    execute("""
        CREATE TABLE custodian (
            ods_code text PRIMARY KEY,
            name text NOT NULL DEFAULT ''
        );
        CREATE TABLE person (
            person_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            nhs_number text UNIQUE,
            birth_date text,
            consent_epoch bigint NOT NULL DEFAULT 1
        );
        CREATE TABLE patient (
            patient_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            patient_id text NOT NULL UNIQUE,
            person_key bigint NOT NULL REFERENCES person,
            custodian text NOT NULL
        );
        CREATE INDEX patient_person ON patient (person_key);
    """)
    execute(f"""
        CREATE TABLE resource_home (
            resource_type text NOT NULL,
            id text NOT NULL,
            patient_key bigint NOT NULL,
            PRIMARY KEY (resource_type, id)
        );
        CREATE TABLE resource (
            patient_key bigint NOT NULL,
            resource_type text NOT NULL,
            id text NOT NULL,
            {_FACETS},
            -- A resource in several patients' compartments has a row in each; one of them is its home.
            home boolean NOT NULL DEFAULT true,
            tokens bigint[] NOT NULL DEFAULT '{{}}',
            PRIMARY KEY (patient_key, resource_type, id)
        ) WITH (fillfactor = 90);
        CREATE TABLE resource_history (
            patient_key bigint NOT NULL,
            resource_type text NOT NULL,
            id text NOT NULL,
            {_FACETS},
            PRIMARY KEY (patient_key, resource_type, id, version)
        );
        -- Stored uncompressed: a released record is bytes copied from storage.
        ALTER TABLE resource ALTER COLUMN content SET STORAGE EXTERNAL;
        CREATE INDEX resource_updated ON resource (resource_type, last_updated, id) WHERE home AND NOT deleted;
        CREATE INDEX resource_tokens ON resource USING gin (tokens) WITH (fastupdate = on);
    """)
    execute("""
        CREATE TABLE index_date (
            patient_key bigint NOT NULL,
            resource_type text NOT NULL,
            id text NOT NULL,
            parameter text NOT NULL,
            lo timestamptz NOT NULL,
            hi timestamptz NOT NULL
        );
        CREATE INDEX index_date_patient ON index_date (patient_key, resource_type, parameter, lo, hi, id);
        CREATE INDEX index_date_resource ON index_date (patient_key, resource_type, id);
        CREATE INDEX index_date_type ON index_date (resource_type, parameter, lo, hi, id);
        CREATE TABLE index_string (
            patient_key bigint NOT NULL,
            resource_type text NOT NULL,
            id text NOT NULL,
            parameter text NOT NULL,
            folded text COLLATE "C" NOT NULL,
            exact text COLLATE "C" NOT NULL
        );
        CREATE INDEX index_string_resource ON index_string (patient_key, resource_type, id);
        CREATE INDEX index_string_type ON index_string (resource_type, parameter, left(folded, 60), id);
        CREATE TABLE loaded_file (
            digest bytea NOT NULL,
            custodian text NOT NULL,
            loaded_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (digest, custodian)
        );
        CREATE TABLE index_quantity (
            patient_key bigint NOT NULL,
            resource_type text NOT NULL,
            id text NOT NULL,
            parameter text NOT NULL,
            lo numeric NOT NULL,
            hi numeric NOT NULL,
            system text NOT NULL DEFAULT '',
            code text NOT NULL DEFAULT '',
            unit text NOT NULL DEFAULT ''
        );
        CREATE INDEX index_quantity_resource ON index_quantity (patient_key, resource_type, id);
        GRANT SELECT, INSERT, UPDATE ON custodian, person, patient TO candour_app;
        GRANT SELECT, INSERT ON resource_home, resource_history, loaded_file TO candour_app;
        GRANT SELECT, INSERT, UPDATE ON resource TO candour_app;
        GRANT UPDATE (patient_key) ON resource_home TO candour_app;
        GRANT DELETE ON resource TO candour_app;
        GRANT SELECT, INSERT, DELETE ON index_date, index_string, index_quantity TO candour_app;
    """)
