-- A search looks at the next patients before it goes by the keys, since what many have is found there. What none of the
-- first 32 has is hardly anything that many have: then it goes by the keys at once, instead of looking at 200 in vain.
-- And by every third key, which together have all letters of the text: whom they find is looked at in any case.

CREATE OR REPLACE FUNCTION patients_like(
    practice uuid, sought text, after uuid, most integer, near integer DEFAULT 200, few integer DEFAULT 5000)
    RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 25 SET search_path = pg_catalog, public
AS $$
DECLARE
    text_sought CONSTANT text := lower(sought);
    head CONSTANT text := right(practice::text, 6);
    after_name text := '';
    after_id uuid := '00000000-0000-0000-0000-000000000000';
    look integer := least(near, 32);
    keys text;
    seen bigint;
    found_ids uuid[];
BEGIN
    IF practice IS DISTINCT FROM tenant() THEN
        RETURN;
    END IF;
    IF after IS NOT NULL THEN
        SELECT p.lower_name, p.id INTO after_name, after_id FROM patient p WHERE p.practice_id = practice AND p.id = after;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;

    -- What many have is found among the next ones.
    LOOP
        SELECT count(*), array_agg(n.id ORDER BY n.lower_name, n.id) FILTER (
                WHERE strpos(n.lower_name, text_sought) > 0 OR strpos(n.lower_email, text_sought) > 0)
            INTO seen, found_ids
            FROM (SELECT p.id, p.lower_name, p.lower_email FROM patient p
                WHERE p.practice_id = practice AND (p.lower_name, p.id) > (after_name, after_id)
                ORDER BY p.lower_name, p.id LIMIT look) n;
        IF seen < look OR cardinality(found_ids) >= most THEN
            RETURN QUERY SELECT unnest(found_ids[:most]);
            RETURN;
        END IF;
        EXIT WHEN found_ids IS NULL OR look = near;
        look := near;
    END LOOP;

    -- What few have is found by the keys.
    SELECT string_agg(DISTINCT format('''%s''%s', replace(replace(head || key, '\', '\\'), '''', ''''''),
            CASE WHEN length(key) < 3 THEN ':*' ELSE '' END), ' & ')
        INTO keys
        FROM (SELECT substr(text_sought, place, 3) AS key
            FROM (SELECT generate_series(1, greatest(least(length(text_sought), 32) - 2, 1), 3) AS place
                UNION SELECT greatest(least(length(text_sought), 32) - 2, 1)) AS places) k;
    SELECT count(*), array_agg(c.id ORDER BY c.lower_name, c.id) FILTER (
            WHERE (c.lower_name, c.id) > (after_name, after_id)
            AND (strpos(c.lower_name, text_sought) > 0 OR strpos(c.lower_email, text_sought) > 0))
        INTO seen, found_ids
        FROM (SELECT f.id, f.lower_name, f.lower_email
            FROM (SELECT p.practice_id, p.id, p.lower_name, p.lower_email FROM patient p
                WHERE patient_keys(p.practice_id, p.lower_name, p.lower_email) @@ keys::tsquery OFFSET 0) f
            WHERE f.practice_id = practice LIMIT few) c;
    IF seen < few THEN
        RETURN QUERY SELECT unnest(found_ids[:most]);
        RETURN;
    END IF;

    -- What neither is true of is looked for in the order in which it is shown.
    RETURN QUERY SELECT p.id FROM patient p
        WHERE p.practice_id = practice AND (p.lower_name, p.id) > (after_name, after_id)
        AND (strpos(p.lower_name, text_sought) > 0 OR strpos(p.lower_email, text_sought) > 0)
        ORDER BY p.lower_name, p.id LIMIT most;
END
$$;
COMMENT ON FUNCTION patients_like(uuid, text, uuid, integer, integer, integer) IS 'Ids of the tenant''s patients '
    'with the text in name or address, by name, after the patient `after`; at most `most`. Of the next patients `near` are '
    'looked at first, fewer where none of those has it, and of those whom the keys find `few`.';
