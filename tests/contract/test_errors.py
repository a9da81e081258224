"""Errors say whose fault they are, with a reason for programs and words for people."""

import pytest

from statewise import errors
from statewise.errors import CLASS_OF_REASON, FrameFailed, Reason, StatewiseError, error


def test_every_class_can_be_raised():
    """There is no error class that no reason leads to, and all are one family."""
    declared = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StatewiseError)}
    assert set(CLASS_OF_REASON.values()) == declared - {StatewiseError, FrameFailed}


@pytest.mark.parametrize("reason", Reason)
def test_an_error_is_of_its_reasons_class(reason):
    """Whoever catches the class gets every reason that means it."""
    with pytest.raises(CLASS_OF_REASON[reason], match="what happened") as raised:
        raise error(reason, "what happened")
    assert raised.value.reason is reason
    assert raised.value.retry_after_seconds is None


def test_facts_are_text_as_they_travel():
    """Metadata are strings on both sides of the wire, whatever they were."""
    raised = error(Reason.AHEAD, "out of order", 0.5, expected=7, field="position")
    assert raised.metadata == {"expected": "7", "field": "position"}
    assert raised.retry_after_seconds == 0.5
