"""Strawberry as one tunes it by hand: Carepost's own server with nothing compiled.

Documents are parsed and validated once, loaders batch, orjson writes; graphql-core executes every operation.
"""

from functools import partial

from api.graphql import schema, view
from carepost.config import Settings
from carepost.serve import serve_api

if __name__ == "__main__":
    view.build_schema = partial(schema.build_schema, compiling=False)  # type: ignore[attr-defined]
    serve_api(Settings())
