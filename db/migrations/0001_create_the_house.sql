-- Everything Carepost stores. The key of every table begins with practice_id and foreign keys are composite,
-- so a row can't point into another practice. Row-level security is forced on every table.
--
-- Two roles, neither of which owns anything or can log in:
--   carepost_app         does the work, for the one practice named by the setting carepost.practice_id;
--                        with none set it sees nothing.
--   carepost_dispatcher  finds work that is due in any practice; column grants let it see ids and times, no more.

DO $$
BEGIN
    -- Roles belong to the cluster, not to the database: another database may have made them, even just now.
    BEGIN
        CREATE ROLE carepost_app NOLOGIN NOBYPASSRLS;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    BEGIN
        CREATE ROLE carepost_dispatcher NOLOGIN NOBYPASSRLS;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    EXECUTE format('GRANT carepost_app, carepost_dispatcher TO %I', current_user);
END
$$;

GRANT USAGE ON SCHEMA public TO carepost_app, carepost_dispatcher;

CREATE FUNCTION tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('carepost.practice_id', true), '')::uuid;
COMMENT ON FUNCTION tenant() IS 'The practice that this transaction works for; null when none is set.';

CREATE FUNCTION uuid_at(at timestamptz) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(
    set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send((extract(epoch FROM at) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid;
COMMENT ON FUNCTION uuid_at(timestamptz) IS 'A UUIDv7 (RFC 9562 section 5.7) of the given time.';

CREATE FUNCTION uuid_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid;
COMMENT ON FUNCTION uuid_floor(timestamptz) IS 'Not greater than any UUIDv7 of the given time or later.';

-- The order of the labels is the rule: see mail/status.py.
CREATE TYPE verdict AS ENUM
    ('queued', 'cancelled', 'failed', 'sent', 'returned_soft', 'delivered', 'opened', 'returned');
CREATE TYPE message_status AS ENUM
    ('queued', 'cancelled', 'failed', 'sent', 'delivered', 'opened', 'not_delivered');
CREATE TYPE account_kind AS ENUM ('esp', 'gmail', 'smtp');
CREATE TYPE email_health AS ENUM ('unknown', 'good', 'soft_bounced', 'bounced', 'complained');
CREATE TYPE event_source AS ENUM ('webhook', 'poll', 'replay', 'attempt');
CREATE TYPE event_kind AS ENUM
    ('queued', 'accepted', 'deferred', 'delivered', 'opened', 'clicked', 'bounced', 'soft_bounced', 'rejected',
     'complained', 'unsubscribed', 'resubscribed', 'auto_replied', 'attempt_deferred', 'attempt_ambiguous', 'failed',
     'cancelled', 'unknown');
CREATE TYPE failure_kind AS ENUM
    ('address_unknown', 'domain_unknown', 'mailbox_full', 'spam', 'reputation', 'authentication', 'suppressed',
     'too_large', 'policy', 'unreachable', 'content', 'account', 'other');
CREATE TYPE attempt_outcome AS ENUM ('accepted', 'deferred', 'refused', 'ambiguous', 'abandoned');
CREATE TYPE delivery_state AS ENUM ('pending', 'applied', 'unreadable');

CREATE TABLE practice (
    id uuid PRIMARY KEY DEFAULT uuid_at(clock_timestamp()),
    name text NOT NULL,
    time_zone text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE practice IS 'The tenant.';
COMMENT ON COLUMN practice.time_zone IS 'IANA name; days of the practice, and the tracking start, are in it.';

CREATE TABLE patient (
    practice_id uuid NOT NULL REFERENCES practice (id),
    id uuid NOT NULL DEFAULT uuid_at(clock_timestamp()),
    name text NOT NULL,
    email text NOT NULL,
    open_tracking boolean NOT NULL DEFAULT true,
    email_health email_health NOT NULL DEFAULT 'unknown',
    email_health_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT patient_pkey PRIMARY KEY (practice_id, id)
);
COMMENT ON COLUMN patient.open_tracking IS 'Whether the patient consents to open tracking.';
COMMENT ON COLUMN patient.email_health_at IS 'Time of the event that email_health stems from; later events win.';
CREATE INDEX patient_name_idx ON patient (practice_id, lower(name), id);

CREATE TABLE sending_account (
    practice_id uuid NOT NULL REFERENCES practice (id),
    id uuid NOT NULL DEFAULT uuid_at(clock_timestamp()),
    kind account_kind NOT NULL,
    provider text,
    name text NOT NULL,
    from_name text NOT NULL DEFAULT '',
    from_email text NOT NULL,
    reply_to text,
    is_default boolean NOT NULL DEFAULT false,
    credentials bytea NOT NULL,
    webhook_secrets bytea,
    last_event_at timestamptz,
    signature_failures bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sending_account_pkey PRIMARY KEY (practice_id, id),
    CONSTRAINT sending_account_kind_key UNIQUE (practice_id, id, kind),
    CONSTRAINT sending_account_provider_check CHECK ((kind = 'esp') = (provider IS NOT NULL))
);
COMMENT ON COLUMN sending_account.credentials IS 'Sealed JSON object, bound to this row: db/sealing.py.';
COMMENT ON COLUMN sending_account.webhook_secrets IS 'Sealed JSON array, newest first; several during a rotation.';
CREATE UNIQUE INDEX sending_account_default_key ON sending_account (practice_id) WHERE is_default;

CREATE TABLE message (
    practice_id uuid NOT NULL REFERENCES practice (id),
    id uuid NOT NULL,
    patient_id uuid NOT NULL,
    account_id uuid NOT NULL,
    account_kind account_kind NOT NULL,
    recipient text NOT NULL,
    subject text NOT NULL,
    body bytea NOT NULL,
    track_opens boolean NOT NULL,
    resend_of uuid,
    idempotency_key text,
    queued_at timestamptz NOT NULL,
    scheduled_at timestamptz,

    due_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    provider_message_id text,

    verdict verdict NOT NULL DEFAULT 'queued',
    cancelled_at timestamptz,
    failed_at timestamptz,
    sent_at timestamptz,
    soft_returned_at timestamptz,
    delivered_at timestamptz,
    opened_at timestamptz,
    returned_at timestamptz,
    attempt_failed boolean NOT NULL DEFAULT false,
    ambiguous boolean NOT NULL DEFAULT false,
    deferred boolean NOT NULL DEFAULT false,
    machine_opened boolean NOT NULL DEFAULT false,
    complained boolean NOT NULL DEFAULT false,
    unsubscribed boolean NOT NULL DEFAULT false,
    failure_kind failure_kind,
    failure_smtp_code integer,
    failure_enhanced_code text,
    failure_reason text,
    changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),

    CONSTRAINT message_pkey PRIMARY KEY (practice_id, id),
    CONSTRAINT message_patient_fkey FOREIGN KEY (practice_id, patient_id) REFERENCES patient (practice_id, id),
    CONSTRAINT message_account_fkey FOREIGN KEY (practice_id, account_id, account_kind)
        REFERENCES sending_account (practice_id, id, kind),
    CONSTRAINT message_resend_fkey FOREIGN KEY (practice_id, resend_of) REFERENCES message (practice_id, id)
);
COMMENT ON COLUMN message.id IS 'UUIDv7 of queued_at: lists are ordered and events partitioned by it.';
COMMENT ON COLUMN message.body IS 'Sealed JSON object {text, html}, bound to this row: db/sealing.py.';
COMMENT ON COLUMN message.due_at IS 'When a worker has to look at it next; null when nothing is left to do. A claim moves '
    'it to the end of its lease, so a message whose worker died comes due by itself.';
COMMENT ON COLUMN message.attempts IS 'Number of the last attempt: the fencing token. What another number writes is refused.';
COMMENT ON COLUMN message.verdict IS 'The greatest verdict of its events. From here down: sums over message_event '
    '(maxima, minima, ORs), so order and repetition of events make no difference.';
COMMENT ON COLUMN message.changed_xid IS 'Transaction of the last visible change; what subscriptions resume by: db/changes.py.';
-- An id begins with its time, so it is the whole keyset: newest first is the index read backwards.
CREATE INDEX message_patient_idx ON message (practice_id, patient_id, id);
CREATE INDEX message_verdict_idx ON message (practice_id, verdict, id);
CREATE INDEX message_due_idx ON message (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX message_provider_idx ON message (practice_id, account_id, provider_message_id)
    WHERE provider_message_id IS NOT NULL;
CREATE INDEX message_changed_idx ON message (practice_id, changed_xid);
CREATE UNIQUE INDEX message_idempotency_key ON message (practice_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE attempt (
    practice_id uuid NOT NULL,
    message_id uuid NOT NULL,
    number integer NOT NULL,
    worker text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL,
    ended_at timestamptz,
    outcome attempt_outcome,
    CONSTRAINT attempt_pkey PRIMARY KEY (practice_id, message_id, number),
    CONSTRAINT attempt_message_fkey FOREIGN KEY (practice_id, message_id) REFERENCES message (practice_id, id),
    CONSTRAINT attempt_ended_check CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
COMMENT ON TABLE attempt IS 'One try to send, committed before the wire is touched. Without an outcome after its lease, '
    'it ended ambiguously.';

CREATE TABLE message_event (
    practice_id uuid NOT NULL,
    message_id uuid NOT NULL,
    dedupe_key text NOT NULL,
    kind event_kind NOT NULL,
    verdict verdict NOT NULL,
    machine boolean NOT NULL DEFAULT false,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    source event_source NOT NULL,
    detail text NOT NULL DEFAULT '',
    failure_kind failure_kind,
    failure_smtp_code integer,
    failure_enhanced_code text,
    failure_reason text,
    CONSTRAINT message_event_pkey PRIMARY KEY (practice_id, message_id, dedupe_key),
    CONSTRAINT message_event_message_fkey FOREIGN KEY (practice_id, message_id) REFERENCES message (practice_id, id)
) PARTITION BY RANGE (message_id);
COMMENT ON TABLE message_event IS 'Evidence: appended, never changed. Partitioned by the month in which its message was '
    'queued, which is in the first bits of the id; so the primary key deduplicates exactly.';

CREATE TABLE message_event_before_2026 PARTITION OF message_event
    FOR VALUES FROM (MINVALUE) TO ('019b76da-a800-0000-0000-000000000000');

CREATE FUNCTION create_event_partitions(until timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public
AS $$
DECLARE
    month timestamp := '2026-01-01';
    partition_name text;
    created integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('carepost.create_event_partitions'));
    WHILE month <= until AT TIME ZONE 'UTC' LOOP
        partition_name := 'message_event_' || to_char(month, 'YYYY_MM');
        IF to_regclass('public.' || partition_name) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE public.%I PARTITION OF public.message_event FOR VALUES FROM (%L) TO (%L)', partition_name,
                public.uuid_floor(month AT TIME ZONE 'UTC'),
                public.uuid_floor((month + interval '1 month') AT TIME ZONE 'UTC'));
            created := created + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN created;
END
$$;
REVOKE ALL ON FUNCTION create_event_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION create_event_partitions(timestamptz) TO carepost_dispatcher;
SELECT create_event_partitions(now() + interval '1 year');

CREATE TABLE webhook_delivery (
    practice_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT uuid_at(clock_timestamp()),
    account_id uuid NOT NULL,
    provider text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    state delivery_state NOT NULL DEFAULT 'pending',
    applied_at timestamptz,
    events integer NOT NULL DEFAULT 0,
    unmatched integer NOT NULL DEFAULT 0,
    error text,
    CONSTRAINT webhook_delivery_pkey PRIMARY KEY (practice_id, id),
    CONSTRAINT webhook_delivery_account_fkey FOREIGN KEY (practice_id, account_id)
        REFERENCES sending_account (practice_id, id)
);
COMMENT ON TABLE webhook_delivery IS 'One POST of an ESP, kept for replay: the inbox.';
COMMENT ON COLUMN webhook_delivery.headers IS 'Those that the provider names as needed to read it again; no password.';
COMMENT ON COLUMN webhook_delivery.body IS 'The raw bytes as they came, sealed, bound to this row: db/sealing.py.';
COMMENT ON COLUMN webhook_delivery.error IS 'What could not be read, without quoting it. Unreadable ones are kept.';
CREATE INDEX webhook_delivery_pending_idx ON webhook_delivery (received_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_unreadable_idx ON webhook_delivery (practice_id, account_id, received_at DESC)
    WHERE error IS NOT NULL;

CREATE TABLE parked_event (
    practice_id uuid NOT NULL,
    account_id uuid NOT NULL,
    delivery_id uuid NOT NULL,
    message_id uuid,
    provider_message_id text,
    dedupe_key text NOT NULL,
    kind event_kind NOT NULL,
    verdict verdict NOT NULL,
    machine boolean NOT NULL,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    source event_source NOT NULL,
    detail text NOT NULL,
    failure_kind failure_kind,
    failure_smtp_code integer,
    failure_enhanced_code text,
    failure_reason text,
    CONSTRAINT parked_event_key UNIQUE NULLS NOT DISTINCT
        (practice_id, account_id, message_id, provider_message_id, dedupe_key),
    CONSTRAINT parked_event_delivery_fkey FOREIGN KEY (practice_id, delivery_id)
        REFERENCES webhook_delivery (practice_id, id)
);
COMMENT ON TABLE parked_event IS 'Events of messages that we do not know yet; joined when the message appears.';
COMMENT ON COLUMN parked_event.message_id IS 'Our id as the ESP gave it back; no foreign key, as it matches nothing yet.';

CREATE TABLE audit_entry (
    practice_id uuid NOT NULL REFERENCES practice (id),
    id uuid NOT NULL DEFAULT uuid_at(clock_timestamp()),
    at timestamptz NOT NULL DEFAULT now(),
    subject text NOT NULL,
    action text NOT NULL,
    object_kind text NOT NULL,
    object_id uuid NOT NULL,
    CONSTRAINT audit_entry_pkey PRIMARY KEY (practice_id, id)
);
COMMENT ON TABLE audit_entry IS 'Who did what to which object; appended only, holds no content.';
COMMENT ON COLUMN audit_entry.subject IS 'The `sub` of the token, or the name of the program.';
CREATE INDEX audit_entry_object_idx ON audit_entry (practice_id, object_id, at DESC);

CREATE FUNCTION tracked_from(tracking_start date, time_zone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (tracking_start + 1)::timestamp AT TIME ZONE time_zone;
COMMENT ON FUNCTION tracked_from(date, text) IS 'mail.status.tracked_from: the first instant that is tracked.';

CREATE FUNCTION message_limit(kind account_kind, sent_at timestamptz, tracked_from timestamptz) RETURNS verdict
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN kind = 'esp' AND sent_at >= tracked_from THEN 'returned'::verdict ELSE 'sent'::verdict END;
COMMENT ON FUNCTION message_limit(account_kind, timestamptz, timestamptz) IS 'mail.status.ceiling.';

CREATE FUNCTION status_of(verdict verdict, lim verdict) RETURNS message_status
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE LEAST(verdict, lim)
    WHEN 'returned' THEN 'not_delivered'::message_status
    WHEN 'returned_soft' THEN 'not_delivered'::message_status
    WHEN 'queued' THEN 'queued'::message_status
    WHEN 'cancelled' THEN 'cancelled'::message_status
    WHEN 'failed' THEN 'failed'::message_status
    WHEN 'sent' THEN 'sent'::message_status
    WHEN 'delivered' THEN 'delivered'::message_status
    WHEN 'opened' THEN 'opened'::message_status
END;
COMMENT ON FUNCTION status_of(verdict, verdict) IS 'mail.status.status_of.';

-- Row-level security. The subselect makes Postgres read the setting once a statement, not once a row.
DO $$
DECLARE
    name text;
    key text;
BEGIN
    FOREACH name IN ARRAY ARRAY['practice', 'patient', 'sending_account', 'message', 'attempt', 'message_event',
                                'webhook_delivery', 'parked_event', 'audit_entry'] LOOP
        key := CASE name WHEN 'practice' THEN 'id' ELSE 'practice_id' END;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO carepost_app USING (%I = (SELECT tenant()))', name, key);
    END LOOP;
    -- Practices are set up by the owner, whose other rights on rows end where row-level security begins.
    EXECUTE format('CREATE POLICY set_up ON practice TO %I USING (true)', current_user);
END
$$;

GRANT SELECT ON practice, patient, sending_account, message, attempt, message_event, webhook_delivery, parked_event,
    audit_entry TO carepost_app;
GRANT INSERT ON patient, sending_account, message, attempt, message_event, webhook_delivery, parked_event, audit_entry
    TO carepost_app;
GRANT UPDATE ON patient, sending_account, message, attempt, webhook_delivery TO carepost_app;
GRANT DELETE ON parked_event TO carepost_app;

CREATE POLICY due ON message FOR SELECT TO carepost_dispatcher USING (due_at IS NOT NULL);
GRANT SELECT (practice_id, id, due_at) ON message TO carepost_dispatcher;
CREATE POLICY pending ON webhook_delivery FOR SELECT TO carepost_dispatcher USING (state = 'pending');
GRANT SELECT (practice_id, id, received_at, state) ON webhook_delivery TO carepost_dispatcher;
CREATE POLICY parked ON parked_event FOR SELECT TO carepost_dispatcher USING (true);
GRANT SELECT (practice_id, received_at) ON parked_event TO carepost_dispatcher;
