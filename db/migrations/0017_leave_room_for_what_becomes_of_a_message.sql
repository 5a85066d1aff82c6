-- What becomes of an old message is written beside it, while its page is at hand, and not onto another one. What stands
-- already stays where it is.
ALTER TABLE message SET (fillfactor = 85);

-- A bulk is delivered to all patients at once: as many new rows as there are, which without room on their pages are
-- written into every index, that of the search above all.
ALTER TABLE patient SET (fillfactor = 45);
