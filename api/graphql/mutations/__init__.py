"""Mutation: everything that can be changed."""

import strawberry

from api.graphql.mutations.accounts import AccountMutations
from api.graphql.mutations.deliveries import DeliveryMutations
from api.graphql.mutations.messages import MessageMutations
from api.graphql.mutations.patients import PatientMutations


@strawberry.type(description="Everything that can be changed: one input and one payload each; user errors are data.")
class Mutation(MessageMutations, PatientMutations, AccountMutations, DeliveryMutations):
    pass
