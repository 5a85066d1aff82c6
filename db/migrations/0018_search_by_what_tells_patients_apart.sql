-- Of a search's keys those are left out that the address of one who was looked at has too: their providers are few, so
-- hardly anybody is told apart by such letters (what "maier" begins with stands in "@mail.example" too), and what the
-- index has of them is long. Where all keys are such they stay.

GRANT CREATE ON SCHEMA public TO carepost_finder;
CREATE OR REPLACE FUNCTION patient_ids_like(
    practice uuid, sought text, after uuid, most integer, near integer DEFAULT 200, few integer DEFAULT 5000)
    RETURNS uuid[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
AS $$
DECLARE
    text_sought CONSTANT text := lower(sought);
    at_sign CONSTANT integer := strpos(text_sought, '@');
    last_key CONSTANT integer :=
        greatest(CASE WHEN at_sign > 3 THEN at_sign - 1 ELSE length(text_sought) END - 2, 1);
    step CONSTANT integer := CASE WHEN last_key > 7 THEN last_key / 2 ELSE last_key END;
    head CONSTANT text := right(practice::text, 6);
    after_name text := '';
    after_id uuid := '00000000-0000-0000-0000-000000000000';
    look integer := least(near, 32);
    place integer := 1;
    an_email text;
    key text;
    quoted text;
    telling text;
    common text;
    keys text;
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
                WHERE strpos(n.lower_name, text_sought) > 0 OR strpos(n.lower_email, text_sought) > 0),
                any_value(n.lower_email)
            INTO seen, found_ids, an_email
            FROM (SELECT p.id, p.lower_name, p.lower_email FROM patient p
                WHERE p.practice_id = practice AND (p.lower_name, p.id) > (after_name, after_id)
                ORDER BY p.lower_name, p.id LIMIT look) n;
        IF seen < look OR cardinality(found_ids) >= most THEN
            RETURN found_ids[:most];
        END IF;
        EXIT WHEN found_ids IS NULL OR look = near;
        look := near;
    END LOOP;

    -- What few have is found by the keys.
    LOOP
        key := substr(text_sought, place, 3);
        quoted := '''' || replace(replace(head || key, '\', '\\'), '''', '''''') || '''';
        IF strpos(an_email, key) > 0 THEN
            common := concat_ws(' & ', common, quoted);
        ELSE
            telling := concat_ws(' & ', telling, quoted);
        END IF;
        EXIT WHEN place = last_key;
        place := least(place + step, last_key);
    END LOOP;
    keys := coalesce(telling, common);
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
REVOKE CREATE ON SCHEMA public FROM carepost_finder;
