"""Identifiers: UUIDs with a type each, so that one can't be passed for another.

A message's id is a UUIDv7 (RFC 9562, section 5.7): its first 48 bits are the time it was queued.
"""

from typing import NewType
from uuid import UUID

PracticeId = NewType("PracticeId", UUID)
PatientId = NewType("PatientId", UUID)
AccountId = NewType("AccountId", UUID)
MessageId = NewType("MessageId", UUID)
DeliveryId = NewType("DeliveryId", UUID)
