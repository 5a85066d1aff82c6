-- A stored webhook can be read again by a later program. What each event was read from, and by which reader, is
-- remembered, so that the same evidence doesn't show twice when a later reader gives it another key.

ALTER TABLE message_event ADD COLUMN delivery_id uuid, ADD COLUMN place integer, ADD COLUMN reader integer;
COMMENT ON COLUMN message_event.delivery_id IS 'The webhook that it was read from; no foreign key, as webhooks are '
    'removed before evidence. Null for what no webhook said.';
COMMENT ON COLUMN message_event.place IS 'Its index in the body of that webhook.';
COMMENT ON COLUMN message_event.reader IS 'Fingerprint of the program that read it: workers/reader.py.';
ALTER TABLE parked_event ADD COLUMN place integer, ADD COLUMN reader integer;
ALTER TABLE webhook_delivery ADD COLUMN readers integer[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN webhook_delivery.readers IS 'Fingerprints of the programs that could not read all of it; empty once '
    'one could. Another one tries again.';
-- By the owner, on whom row-level security is forced otherwise. 0 is no program.
ALTER TABLE webhook_delivery NO FORCE ROW LEVEL SECURITY;
UPDATE webhook_delivery SET readers = '{0}' WHERE error IS NOT NULL;
ALTER TABLE webhook_delivery FORCE ROW LEVEL SECURITY;
CREATE INDEX webhook_delivery_failed_idx ON webhook_delivery (practice_id, received_at) WHERE readers <> '{}';
COMMENT ON COLUMN webhook_delivery.applied_at IS 'When it was read last. Pending with this set: to be read again.';

-- By practice first: one practice's backlog is nothing that the others have to read past.
DROP INDEX webhook_delivery_pending_idx;
CREATE INDEX webhook_delivery_pending_idx ON webhook_delivery (practice_id, received_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_received_idx ON webhook_delivery USING brin (received_at);
CREATE INDEX parked_event_provider_idx ON parked_event (practice_id, account_id, provider_message_id);
CREATE INDEX parked_event_delivery_idx ON parked_event (practice_id, delivery_id);
CREATE INDEX parked_event_received_idx ON parked_event (practice_id, received_at);

CREATE FUNCTION believed_at(occurred_at timestamptz, received_at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN occurred_at > received_at + interval '5 minutes' THEN received_at ELSE occurred_at END;
COMMENT ON FUNCTION believed_at(timestamptz, timestamptz) IS 'mail.status.believed_at.';

-- Retention removes webhooks. Postgres itself keeps those that are still to be read, and those of the last day.
GRANT DELETE ON webhook_delivery TO carepost_app;
CREATE POLICY old_and_read ON webhook_delivery AS RESTRICTIVE FOR DELETE TO carepost_app
    USING (state <> 'pending' AND received_at < now() - interval '1 day');
-- Of two copies of a parked event the time of the first counts.
GRANT UPDATE (received_at) ON parked_event TO carepost_app;

CREATE POLICY old ON webhook_delivery FOR SELECT TO carepost_dispatcher
    USING (received_at < now() - interval '1 day');
GRANT SELECT (readers) ON webhook_delivery TO carepost_dispatcher;
