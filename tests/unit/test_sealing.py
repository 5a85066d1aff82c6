"""What is sealed opens with one of the keys, for the same column of the same row, untouched; else not at all."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import SealBroken
from db.sealing import Sealer

OLD, NEW = "the old secret key, long enough", "the new secret key, long enough"
PRACTICE, ROW = UUID(int=1), UUID(int=2)


def opens(sealer: Sealer, sealed: bytes, column: str = "c", practice: UUID = PRACTICE, row: UUID = ROW) -> bool:
    try:
        sealer.open(sealed, column, practice, row)
    except SealBroken:
        return False
    return True


@given(st.binary(max_size=200), st.text(max_size=20), st.uuids(), st.uuids())
def test_what_is_sealed_opens_again(plain: bytes, column: str, practice: UUID, row: UUID) -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal(plain, column, practice, row)
    assert sealer.open(sealed, column, practice, row) == plain
    assert len(sealed) == 1 + 4 + 12 + len(plain) + 16


def test_the_same_is_never_sealed_to_the_same_bytes() -> None:
    sealer = Sealer([NEW])
    assert len({sealer.seal(b"secret", "c", PRACTICE, ROW) for _ in range(100)}) == 100


def test_after_a_rotation_the_old_key_opens_and_the_new_one_seals() -> None:
    before, during, after = Sealer([OLD]), Sealer([NEW, OLD]), Sealer([NEW])
    old = before.seal(b"secret", "c", PRACTICE, ROW)
    new = during.seal(b"secret", "c", PRACTICE, ROW)
    assert [opens(sealer, old) for sealer in (before, during, after)] == [True, True, False]
    assert [opens(sealer, new) for sealer in (before, during, after)] == [False, True, True]


def test_sealed_bytes_are_worth_nothing_elsewhere() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal(b"secret", "message.body", PRACTICE, ROW)
    assert opens(sealer, sealed, "message.body")
    assert not opens(sealer, sealed, "sending_account.credentials")
    assert not opens(sealer, sealed, "message.body", practice=uuid4())
    assert not opens(sealer, sealed, "message.body", row=uuid4())
    assert not opens(sealer, sealed, "message.body", practice=ROW, row=PRACTICE)


def test_no_bit_can_be_changed() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal(b"secret", "c", PRACTICE, ROW)
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        assert not opens(sealer, bytes(changed)), place


def test_nothing_can_be_cut_off_or_added() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal(b"secret", "c", PRACTICE, ROW)
    for length in range(len(sealed)):
        assert not opens(sealer, sealed[:length]), length
    assert not opens(sealer, sealed + b"\x00")


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_by_name(sealed: bytes) -> None:
    with pytest.raises(SealBroken, match=r"message\.body was sealed with a key that is not among SECRET_KEY"):
        Sealer([NEW]).open(sealed, "message.body", PRACTICE, ROW)


def test_no_error_quotes_what_was_sealed() -> None:
    sealer = Sealer([NEW])
    with pytest.raises(SealBroken) as caught:
        sealer.open(sealer.seal(b"secret", "c", PRACTICE, ROW), "other", PRACTICE, ROW)
    assert str(caught.value) == "other does not belong to this row or was tampered with"


def test_a_sealer_needs_a_key() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Sealer([])
