"""A compiled executor for Strawberry: a query is planned once, then run column by column.

graphql-core walks the answer value by value, and awaits each one. Here each field is resolved for all of its parents
at once, so that what is left for each value is a step of `map`. It knows Strawberry and graphql-core and nothing else
of this project: see docs/architecture.md.

    schema      CompilingSchema: runs what can be compiled, and leaves the rest to graphql-core
    operation   one operation of a document, with its variables
    planner     from selections to plans, by graphql-core's own rules for collecting fields
    objects, fields, values, leaves     the parts of a plan
    source      what of it is only read, as one function of Python
    arguments, info, places, run        what they work with
    remembered  what was made of documents, as much as there is room for
    hooks       `batched` and `planned`: what a resolver may offer
"""

from api.graphql.compiled.hooks import Ahead, batched, planned
from api.graphql.compiled.operation import CompiledOperation, NotCompiled
from api.graphql.compiled.schema import CompilingSchema

__all__ = ["Ahead", "CompiledOperation", "CompilingSchema", "NotCompiled", "batched", "planned"]
