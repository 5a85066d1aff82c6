-- Who saw which patients' data is in the audit trail too. Nobody changes or removes an entry: the role that appends sees
-- none, and the application's sees its practice's.

CREATE TABLE view_entry (
    practice_id uuid NOT NULL REFERENCES practice (id),
    id uuid NOT NULL DEFAULT uuid_at(clock_timestamp()),
    subject text NOT NULL,
    view text NOT NULL,
    patient_ids uuid[] NOT NULL,
    times integer NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    CONSTRAINT view_entry_pkey PRIMARY KEY (practice_id, id),
    CONSTRAINT view_entry_times_check CHECK (times > 0 AND first_at <= last_at)
) PARTITION BY RANGE (id);
COMMENT ON TABLE view_entry IS 'Who saw what of which patients; appended only, holds no content. Partitioned by the month '
    'in which it was written, so that what is past its time is dropped as a table.';
COMMENT ON COLUMN view_entry.subject IS 'The `sub` of the token.';
COMMENT ON COLUMN view_entry.view IS 'What was looked at: api/views.py.';
COMMENT ON COLUMN view_entry.patient_ids IS 'Whose data was shown, each at least once; none for a selection that showed or '
    'names nobody. No foreign key: an entry stands whatever becomes of the patient.';
COMMENT ON COLUMN view_entry.times IS 'Views in all between first_at and last_at.';

CREATE TABLE view_entry_before_2026 PARTITION OF view_entry
    FOR VALUES FROM (MINVALUE) TO ('019b76da-a800-0000-0000-000000000000');

CREATE OR REPLACE FUNCTION create_event_partitions(until timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public
AS $$
DECLARE
    parent text;
    month timestamp;
    partition_name text;
    created integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('carepost.create_event_partitions'));
    FOREACH parent IN ARRAY ARRAY['message_event', 'view_entry'] LOOP
        month := '2026-01-01';
        WHILE month <= until AT TIME ZONE 'UTC' LOOP
            partition_name := parent || to_char(month, '_YYYY_MM');
            IF to_regclass('public.' || partition_name) IS NULL THEN
                EXECUTE format(
                    'CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)', partition_name, parent,
                    public.uuid_floor(month AT TIME ZONE 'UTC'),
                    public.uuid_floor((month + interval '1 month') AT TIME ZONE 'UTC'));
                created := created + 1;
            END IF;
            month := month + interval '1 month';
        END LOOP;
    END LOOP;
    RETURN created;
END
$$;
SELECT create_event_partitions(now() + interval '1 year');

ALTER TABLE view_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE view_entry FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON view_entry TO carepost_app USING (practice_id = (SELECT tenant()));
GRANT SELECT ON view_entry TO carepost_app;
CREATE POLICY append ON view_entry FOR INSERT TO carepost_inbox WITH CHECK (true);
GRANT INSERT (practice_id, subject, view, patient_ids, times, first_at, last_at) ON view_entry TO carepost_inbox;
