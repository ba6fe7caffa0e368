import pytest

from dohproxy.kernel_clock import adjtimex, is_synchronised


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [(0, 0x2001, True), (1, 0x0001, True), (5, 0x2001, False), (5, 0x40, False), (0, 0x2040, False)],
)
def test_the_clock_is_kept_if_neither_state_nor_status_says_otherwise(state, status, expected):
    assert is_synchronised(lambda: (state, status)) is expected


@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), AttributeError("adjtimex")])
def test_a_kernel_that_does_not_tell_is_no_excuse_and_that_is_said(error, caplog):
    def ask():
        raise error

    assert is_synchronised(ask)
    assert "does not tell" in caplog.text


def test_the_kernel_answers():
    state, status = adjtimex()
    assert 0 <= state <= 5
    assert 0 <= status < 0x10000
