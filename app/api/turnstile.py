"""How many requests without a valid token are recorded: each leaves an entry, and nobody may fill the log with them."""

import time
from collections.abc import Callable


class Turnstile:
    """Lets ``rate`` through a second on average, and at most ``burst`` at once. One for each process."""

    def __init__(
        self, *, rate: float = 20.0, burst: int = 400, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._seconds = rate, burst, seconds
        self._left, self._since = float(burst), seconds()

    def admits(self) -> bool:
        """Whether one more may pass now; it counts if so."""
        now = self._seconds()
        self._left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
