-- What is known of an account's key and webhook is noted on its row, so that everybody sees the same and a worker that
-- dies loses nothing. Whom to ask is a matter of times and leases, as sending is.

ALTER TABLE sending_account
    ADD COLUMN signature_failed_at timestamptz,
    ADD COLUMN webhook_confirmed_at timestamptz,
    ADD COLUMN credentials_changed_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN credentials_refused_at timestamptz,
    ADD COLUMN credentials_refusal text,
    ADD COLUMN credentials_checked_at timestamptz,
    ADD COLUMN credentials_ok boolean,
    ADD COLUMN credentials_text text,
    ADD COLUMN credentials_expire_at timestamptz,
    ADD COLUMN look_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN ask_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN asking_refused_at timestamptz,
    ADD COLUMN told_at timestamptz,
    ADD COLUMN asked bigint NOT NULL DEFAULT 0,
    ADD COLUMN told bigint NOT NULL DEFAULT 0,
    ADD COLUMN not_told bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT sending_account_refusal_check
        CHECK ((credentials_refused_at IS NULL) = (credentials_refusal IS NULL));
COMMENT ON COLUMN sending_account.signature_failed_at IS 'When the last webhook was refused.';
COMMENT ON COLUMN sending_account.webhook_confirmed_at IS 'When we last confirmed the subscription of its webhook.';
COMMENT ON COLUMN sending_account.credentials_refused_at IS 'When a send was first refused for the key or account; null '
    'since a send was accepted, or the credentials changed.';
COMMENT ON COLUMN sending_account.credentials_ok IS 'What the last check said of the key; null when it didn''t tell.';
COMMENT ON COLUMN sending_account.look_at IS 'When a worker looks after it next: its key, and messages to ask about. A '
    'worker that looks moves it to the end of its lease.';
COMMENT ON COLUMN sending_account.ask_at IS 'Its ESP is not asked before: each question moves it by the pause that the '
    'ESP wants, whichever worker asks.';
COMMENT ON COLUMN sending_account.asking_refused_at IS 'When the ESP refused the key for being asked; null since it told.';
COMMENT ON COLUMN sending_account.told_at IS 'When asking last brought what no webhook had brought.';
COMMENT ON COLUMN sending_account.asked IS 'Questions so far; told and not_told are those by what the answer was.';

ALTER TABLE message
    ADD COLUMN ask_at timestamptz,
    ADD COLUMN asks smallint NOT NULL DEFAULT 0,
    ADD COLUMN asking_until timestamptz;
COMMENT ON COLUMN message.ask_at IS 'When its ESP may be asked about it again; null when it never was.';
COMMENT ON COLUMN message.asking_until IS 'The end of the lease of whoever asks about it now.';
-- What waits for an answer: few rows, however many were sent.
CREATE INDEX message_unanswered_idx ON message (practice_id, account_id, sent_at)
    WHERE verdict = 'sent' AND account_kind = 'esp';

ALTER TABLE webhook_delivery
    ADD COLUMN confirm_at timestamptz,
    ADD COLUMN confirmations integer,
    ADD COLUMN confirmed_at timestamptz;
COMMENT ON COLUMN webhook_delivery.confirm_at IS 'When the subscription that this webhook wants confirmed is confirmed '
    'next; null when there is nothing left to do. A worker that does it moves it to the end of its lease.';
COMMENT ON COLUMN webhook_delivery.confirmations IS 'How often it was tried; null when it wants no confirmation.';
CREATE INDEX webhook_delivery_confirm_idx ON webhook_delivery (confirm_at) WHERE confirm_at IS NOT NULL;
CREATE INDEX webhook_delivery_unconfirmed_idx ON webhook_delivery (practice_id, account_id)
    WHERE confirmations IS NOT NULL AND confirmed_at IS NULL;

-- The dispatcher finds accounts to look after, and sums up how they do by provider.
CREATE POLICY looked_after ON sending_account FOR SELECT TO carepost_dispatcher USING (provider IS NOT NULL);
GRANT SELECT (practice_id, id, provider, look_at, last_event_at, signature_failed_at, credentials_refused_at,
    credentials_ok, credentials_expire_at, asking_refused_at, asked, told, not_told)
    ON sending_account TO carepost_dispatcher;
CREATE POLICY confirmed ON webhook_delivery FOR SELECT TO carepost_dispatcher USING (confirm_at IS NOT NULL);
GRANT SELECT (confirm_at, error, provider) ON webhook_delivery TO carepost_dispatcher;
CREATE POLICY unreadable ON webhook_delivery FOR SELECT TO carepost_dispatcher USING (error IS NOT NULL);
GRANT SELECT (account_id) ON parked_event TO carepost_dispatcher;
