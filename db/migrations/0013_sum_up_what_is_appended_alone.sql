-- Events are summed up from what a statement appends, for which this must be inlined: with zones and daylight saving an
-- interval of days isn't immutable, so Postgres calls a function for it that says it were, once for each event.
ALTER FUNCTION believed_at(timestamptz, timestamptz) STABLE;

-- Each delivery notes the health of its patient's address on the patient, whose row is not written into the indexes
-- again as long as its page has room.
ALTER TABLE patient SET (fillfactor = 85);
