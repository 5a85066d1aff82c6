-- What waits is stored by one statement, whoever's it is. So the inbox has a role that can append to it and do nothing
-- else: it sees no row of any practice, not even those it wrote. The foreign key keeps a row with its practice's account.

DO $$
BEGIN
    BEGIN
        CREATE ROLE carepost_inbox NOLOGIN NOBYPASSRLS;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    EXECUTE format('GRANT carepost_inbox TO %I', current_user);
END
$$;
GRANT USAGE ON SCHEMA public TO carepost_inbox;

ALTER TABLE webhook_delivery ADD COLUMN token text;
COMMENT ON COLUMN webhook_delivery.token IS 'What the signature covers where it doesn''t cover the content; taken once.';
CREATE UNIQUE INDEX webhook_delivery_token_key ON webhook_delivery (practice_id, account_id, token)
    WHERE token IS NOT NULL;

CREATE POLICY append ON webhook_delivery FOR INSERT TO carepost_inbox WITH CHECK (state = 'pending');
GRANT INSERT (practice_id, id, account_id, provider, headers, body, token) ON webhook_delivery TO carepost_inbox;
