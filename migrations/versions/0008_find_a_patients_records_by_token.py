"""Find a patient's records by token: an index whose keys are made of the patient and the token together.

It finds exactly the records that one patient has under one token, however many that patient or anybody else has, and
is no larger than an index over the tokens alone. Its pending lists are kept short, because every search reads them.
"""

from app.migrate import execute

revision, down_revision = "0008", "0007"


def upgrade() -> None:
    execute("""
        -- Every pairing of a patient and a token as one 64-bit key. Of hashint8extended only the index depends.
        CREATE FUNCTION keys_within(patients bigint[], tokens bigint[]) RETURNS bigint[]
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN ARRAY(
            SELECT hashint8extended(token, patient) FROM unnest(patients) AS patient, unnest(tokens) AS token
        );
        CREATE INDEX resource_patient_tokens ON resource USING gin (keys_within(ARRAY[patient_key], tokens))
            WITH (fastupdate = on, gin_pending_list_limit = 256);
        ALTER INDEX resource_tokens SET (gin_pending_list_limit = 512);
    """)
