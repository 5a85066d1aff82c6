-- An id is of the millisecond in which its time lies, as in db/ids.py. A cast rounds, so that half of all times
-- had a floor greater than the ids made at them.

CREATE OR REPLACE FUNCTION uuid_at(at timestamptz) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(
    set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid()) PLACING
                substring(int8send(floor(extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid;

CREATE OR REPLACE FUNCTION uuid_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid;

-- mail.status.tracked_from alone says when tracking begins, and its answer comes as a parameter. Postgres takes the
-- second of two midnights, reads CET as an abbreviation without summer time, and has zone data of another edition.
DROP FUNCTION tracked_from(date, text);
