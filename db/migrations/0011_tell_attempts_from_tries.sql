-- Attempts that were given up before the wire was touched, while an account's server was out of reach, say nothing of
-- the message: how long it waits for its next try goes by the others.

ALTER TABLE message ADD COLUMN put_backs integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN message.put_backs IS 'Of its attempts those for which the wire was never touched.';
