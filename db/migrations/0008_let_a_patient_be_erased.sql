-- What is known of a person goes, and what became of the practice's emails stays. A role of its own does it: the
-- application appends evidence and never changes it, and that stays so.

ALTER TABLE patient ADD COLUMN erased_at timestamptz;
COMMENT ON COLUMN patient.erased_at IS 'When name, address and the content of all messages were removed for good.';

DO $$
BEGIN
    BEGIN
        CREATE ROLE carepost_eraser NOLOGIN NOBYPASSRLS;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    EXECUTE format('GRANT carepost_eraser TO %I', current_user);
END
$$;
GRANT USAGE ON SCHEMA public TO carepost_eraser;

CREATE POLICY erase ON patient TO carepost_eraser USING (practice_id = (SELECT tenant()));
CREATE POLICY erase ON message TO carepost_eraser USING (practice_id = (SELECT tenant()));
CREATE POLICY erase ON message_event TO carepost_eraser USING (practice_id = (SELECT tenant()));
CREATE POLICY erase ON parked_event TO carepost_eraser USING (practice_id = (SELECT tenant()));
CREATE POLICY erase ON webhook_delivery TO carepost_eraser USING (practice_id = (SELECT tenant()));
CREATE POLICY erase ON audit_entry FOR INSERT TO carepost_eraser WITH CHECK (practice_id = (SELECT tenant()));

GRANT SELECT (practice_id, id, erased_at), UPDATE (name, email, open_tracking, email_health, email_health_at, erased_at)
    ON patient TO carepost_eraser;
GRANT SELECT (practice_id, id, patient_id, failure_kind),
    UPDATE (recipient, subject, body, idempotency_key, failure_reason, changed_xid) ON message TO carepost_eraser;
GRANT SELECT (practice_id, message_id, delivery_id, source, failure_kind), UPDATE (failure_reason, detail)
    ON message_event TO carepost_eraser;
GRANT SELECT (practice_id, delivery_id), DELETE ON parked_event TO carepost_eraser;
GRANT SELECT (practice_id, id), DELETE ON webhook_delivery TO carepost_eraser;
GRANT INSERT ON audit_entry TO carepost_eraser;
