"""Planned forms of the lists: all that a page shows in one statement, written from the rows as they come.

Each says of the fields that it knows how they are read from a row of `db.lists`; what it doesn't know is left to the
resolvers of `api.graphql.types`, for which objects stand in. Both must tell the same, which a differential test proves.
"""
