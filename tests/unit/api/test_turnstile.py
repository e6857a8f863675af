"""The turnstile: a burst passes, then as many a second as are allowed, whatever was tried in between."""

from hypothesis import given
from hypothesis import strategies as st

from app.api.turnstile import Turnstile


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_the_next_one_does_not() -> None:
    turnstile = Turnstile(rate=10, burst=3, seconds=Watch())
    assert [turnstile.admits() for _ in range(5)] == [True, True, True, False, False]


def test_after_a_while_one_more_passes() -> None:
    watch = Watch()
    turnstile = Turnstile(rate=10, burst=1, seconds=watch)
    assert turnstile.admits() and not turnstile.admits()
    watch.now += 0.0625
    assert not turnstile.admits()
    watch.now += 0.0625
    assert turnstile.admits()


@given(st.lists(st.floats(0, 60), max_size=200))
def test_never_more_pass_than_the_burst_and_what_the_time_allows(pauses: list[float]) -> None:
    watch, rate, burst = Watch(), 5.0, 7
    turnstile = Turnstile(rate=rate, burst=burst, seconds=watch)
    passed = 0
    for pause in pauses:
        watch.now += pause
        passed += turnstile.admits()
    assert passed <= burst + sum(pauses) * rate + 1e-6
