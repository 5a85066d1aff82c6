-- A bulk send waits behind single emails of its account, and what is due is looked for account by account.

ALTER TABLE message ADD COLUMN bulk boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN message.bulk IS 'Written to several patients at once: single emails go first.';

DROP INDEX message_due_idx;
CREATE INDEX message_due_idx ON message (practice_id, account_id, bulk, due_at) WHERE due_at IS NOT NULL;

GRANT SELECT (account_id) ON message TO carepost_dispatcher;
