-- A token holds until it ends, unless its practice says otherwise. Every API process reads a practice's revocations anew
-- within seconds.

CREATE TABLE revocation (
    practice_id uuid NOT NULL REFERENCES practice (id),
    id uuid NOT NULL DEFAULT uuid_at(clock_timestamp()),
    token_id text,
    subject text,
    issued_before timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT revocation_pkey PRIMARY KEY (practice_id, id)
);
COMMENT ON TABLE revocation IS 'Tokens that hold no more although they have not ended; appended only.';
COMMENT ON COLUMN revocation.token_id IS 'The `jti` of the one token that is meant; null for all of a person or practice.';
COMMENT ON COLUMN revocation.subject IS 'The `sub` of the tokens that are meant; null for those of everybody.';
COMMENT ON COLUMN revocation.issued_before IS 'Tokens whose `iat` is earlier, or that have none; says nothing of a token_id.';

ALTER TABLE revocation ENABLE ROW LEVEL SECURITY;
ALTER TABLE revocation FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON revocation TO carepost_app USING (practice_id = (SELECT tenant()));
GRANT SELECT, INSERT ON revocation TO carepost_app;
