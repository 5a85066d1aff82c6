"""What a field lets whom do stands on the field: every mutation, and every field that shows what few may see."""

import re
from typing import Any

from graphql import GraphQLInputObjectType
from strawberry.permission import PermissionExtension

from api.graphql.roles import MaySeeWebhooks, MaySend, MaySetUp
from api.graphql.schema import build_schema
from api.roles import Role

SCHEMA = build_schema()
SENSITIVE = re.compile(r"secret|credential|password|token|setUp|webhookDeliver|apiKey", re.IGNORECASE)
# Fields with such a name that show nothing of it, each with its reason.
FOR_EVERYBODY = {
    "AccountHealth.credentialsCheckedAt": "a time",
    "AccountHealth.credentialsExpireAt": "a time",
    "AccountHealth.credentialsOk": "yes or no",
    "AccountHealth.credentialsRefusal": "the ESP's reply",
    "AccountHealth.credentialsRefusedAt": "a time",
    "CreateSendingAccountPayload.setUpSteps": "its mutation is an ADMIN's",
    "CredentialField.secret": "whether a form hides what is typed",
    "Provider.credentialFields": "what a form asks for, of no account",
    "Provider.setUpSteps": "of no account",
}


def declared(type_name: str, field_name: str) -> list[type]:
    """The permissions on a field, by its names in the schema."""
    definition: Any = SCHEMA.schema_converter.type_map[type_name].definition
    for field in definition.fields:
        if SCHEMA.config.name_converter.get_graphql_name(field) == field_name:
            extensions = [each for each in field.extensions if isinstance(each, PermissionExtension)]
            return [type(permission) for each in extensions for permission in each.permissions]
    raise LookupError(field_name)


def test_every_mutation_says_who_may() -> None:
    mutation = SCHEMA._schema.mutation_type
    assert mutation is not None
    found = {name: declared("Mutation", name) for name in mutation.fields}
    assert {name for name, permissions in found.items() if not permissions} == set()
    assert {permission for permissions in found.values() for permission in permissions} == {
        MaySeeWebhooks,
        MaySend,
        MaySetUp,
    }


def test_every_sensitive_field_says_who_may_see_it() -> None:
    sensitive = {
        f"{type_.name}.{name}": declared(type_.name, name)
        for type_ in SCHEMA._schema.type_map.values()
        if not type_.name.startswith("__") and not isinstance(type_, GraphQLInputObjectType)
        for name in getattr(type_, "fields", {})
        if SENSITIVE.search(name) and type_.name != "Mutation"
    }
    assert {place for place, permissions in sensitive.items() if not permissions} == set(FOR_EVERYBODY)


def test_an_auditor_may_do_none_of_it_and_staff_may_not_set_up() -> None:
    assert MaySend.roles == {Role.STAFF, Role.ADMIN}
    assert MaySetUp.roles == MaySeeWebhooks.roles == {Role.ADMIN}
