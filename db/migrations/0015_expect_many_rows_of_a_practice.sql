-- While nothing is known of a table, Postgres expects one row of a practice, for which any index that begins with the
-- practice is as good as the key: planned so, the first bulk reads all of a practice's messages for each of them, until
-- a first ANALYZE. So it is told beforehand that a practice has many.

DO $$
BEGIN
    -- Before Postgres 18 nobody can be told; the first ANALYZE comes within a minute or two.
    IF to_regproc('pg_catalog.pg_restore_attribute_stats') IS NOT NULL THEN
        PERFORM pg_restore_attribute_stats(
            'schemaname', 'public', 'relname', relname::text, 'attname', 'practice_id', 'inherited', false,
            'null_frac', 0::real, 'avg_width', 16, 'n_distinct', 1::real)
        FROM pg_class
        WHERE oid IN ('message'::regclass, 'patient'::regclass, 'attempt'::regclass, 'webhook_delivery'::regclass)
            AND reltuples <= 0;
    END IF;
END
$$;
