"""Errors cross the wire whole: class, reason, message, metadata and the time to wait."""

import pytest

from statewise.client.failures import from_status
from statewise.errors import CLASS_OF_REASON, Reason, StatewiseError, error
from statewise.rpc.status import CODE_OF_REASON, LONGEST_MESSAGE, to_status


def test_every_reason_has_a_class_and_a_code():
    """A reason that is added to the vocabulary cannot be forgotten in either table."""
    assert set(CODE_OF_REASON) == set(Reason) == set(CLASS_OF_REASON)


@pytest.mark.parametrize("reason", Reason)
def test_an_error_comes_back_as_the_same_error(reason):
    """The client raises the class that the server raised, with its reason, message and facts."""
    raised = error(reason, "what happened", retry_after_seconds=1.25, expected=7, field="x")
    status = to_status(raised)
    back = from_status(status)
    assert status.code == CODE_OF_REASON[reason].value[0]
    assert type(back) is type(raised)
    assert (back.reason, str(back), back.retry_after_seconds) == (reason, "what happened", 1.25)
    assert back.metadata == {"expected": "7", "field": "x"}


def test_no_time_to_wait_stays_none():
    """RetryInfo is there only where the server knows."""
    status = to_status(error(Reason.STALE, "old"))
    assert len(status.details) == 1
    assert from_status(status).retry_after_seconds is None


def test_a_reason_from_a_later_server_is_still_an_error():
    """A client that does not know a reason raises the base class with the message."""
    status = to_status(error(Reason.STALE, "new kind"))
    status.details[0].value = status.details[0].value.replace(b"STALE", b"STOLE")
    back = from_status(status)
    assert type(back) is StatewiseError
    assert (back.reason, str(back)) == (None, "new kind")


def test_a_message_never_outgrows_the_headers_that_carry_it():
    """What a client sent may be echoed in an error; it is cut where a unary call's trailers would overflow."""
    for letter in ("x", "\n", "é", "𝔖"):
        message = to_status(error(Reason.MODEL_UNKNOWN, letter * 100_000)).message
        assert LONGEST_MESSAGE - 4 < len(message.encode()) <= LONGEST_MESSAGE
        assert set(message) == {letter, "…"}
