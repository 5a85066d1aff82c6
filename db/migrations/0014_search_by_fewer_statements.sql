-- A search takes one statement for the patients that it looks at and one for those whom the keys find: keys are put
-- together and ids returned without one. The function that returned rows stays for programs that call it.

GRANT CREATE ON SCHEMA public TO carepost_finder;
CREATE FUNCTION patient_ids_like(
    practice uuid, sought text, after uuid, most integer, near integer DEFAULT 200, few integer DEFAULT 5000)
    RETURNS uuid[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
AS $$
DECLARE
    text_sought CONSTANT text := lower(sought);
    last_key CONSTANT integer := greatest(least(length(text_sought), 32) - 2, 1);
    head CONSTANT text := right(practice::text, 6);
    after_name text := '';
    after_id uuid := '00000000-0000-0000-0000-000000000000';
    look integer := least(near, 32);
    place integer := 1;
    keys text := '';
    seen bigint;
    found_ids uuid[];
BEGIN
    IF practice IS DISTINCT FROM tenant() THEN
        RETURN '{}';
    END IF;
    IF after IS NOT NULL THEN
        SELECT p.lower_name, p.id INTO after_name, after_id FROM patient p WHERE p.practice_id = practice AND p.id = after;
        IF NOT FOUND THEN
            RETURN '{}';
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
            RETURN found_ids[:most];
        END IF;
        EXIT WHEN found_ids IS NULL OR look = near;
        look := near;
    END LOOP;

    -- What few have is found by every third key and the last, which together have all letters of the text.
    LOOP
        keys := keys || '''' || replace(replace(head || substr(text_sought, place, 3), '\', '\\'), '''', '''''') || '''';
        EXIT WHEN place = last_key;
        keys := keys || ' & ';
        place := least(place + 3, last_key);
    END LOOP;
    IF length(text_sought) < 3 THEN
        keys := keys || ':*';
    END IF;
    SELECT count(*), array_agg(c.id ORDER BY c.lower_name, c.id) FILTER (
            WHERE (c.lower_name, c.id) > (after_name, after_id)
            AND (strpos(c.lower_name, text_sought) > 0 OR strpos(c.lower_email, text_sought) > 0))
        INTO seen, found_ids
        FROM (SELECT f.id, f.lower_name, f.lower_email
            FROM (SELECT p.practice_id, p.id, p.lower_name, p.lower_email FROM patient p
                WHERE patient_keys(p.practice_id, p.lower_name, p.lower_email) @@ keys::tsquery OFFSET 0) f
            WHERE f.practice_id = practice LIMIT few) c;
    IF seen < few THEN
        RETURN found_ids[:most];
    END IF;

    -- What neither is true of is looked for in the order in which it is shown.
    RETURN ARRAY(SELECT p.id FROM patient p
        WHERE p.practice_id = practice AND (p.lower_name, p.id) > (after_name, after_id)
        AND (strpos(p.lower_name, text_sought) > 0 OR strpos(p.lower_email, text_sought) > 0)
        ORDER BY p.lower_name, p.id LIMIT most);
END
$$;
COMMENT ON FUNCTION patient_ids_like(uuid, text, uuid, integer, integer, integer) IS 'Ids of the tenant''s patients '
    'with the text in name or address, by name, after the patient `after`; at most `most`, null for none. Of the next '
    'patients `near` are looked at first, fewer where none of those has it, and of those whom the keys find `few`.';
ALTER FUNCTION patient_ids_like(uuid, text, uuid, integer, integer, integer) OWNER TO carepost_finder;
REVOKE CREATE ON SCHEMA public FROM carepost_finder;
REVOKE ALL ON FUNCTION patient_ids_like(uuid, text, uuid, integer, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION patient_ids_like(uuid, text, uuid, integer, integer, integer) TO carepost_app;

CREATE OR REPLACE FUNCTION patients_like(
    practice uuid, sought text, after uuid, most integer, near integer DEFAULT 200, few integer DEFAULT 5000)
    RETURNS SETOF uuid
LANGUAGE sql STABLE ROWS 25
RETURN unnest(patient_ids_like(practice, sought, after, most, near, few));
COMMENT ON FUNCTION patients_like(uuid, text, uuid, integer, integer, integer) IS 'The same as rows; to be dropped.';
