"""A desk to send from."""

import pytest

from db.practices import Practice
from tests.integration.workers.sending import Desk
from tests.support.stack import Stack


@pytest.fixture
async def desk(stack: Stack, practice: Practice) -> Desk:
    return await Desk.open(stack, practice)
