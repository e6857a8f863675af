"""Long work beside short: the event loop is given back every few milliseconds."""

import asyncio
from typing import Final

MOST_SECONDS: Final = 0.004
"""What a request that came meanwhile waits for at each of its steps."""


class Turns:
    """Of one piece of work that consists of many small ones."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._since = self._clock()

    async def given(self) -> None:
        """Lets everybody else go on, when this work has had its time."""
        if self._clock() - self._since > MOST_SECONDS:
            await asyncio.sleep(0)
            self._since = self._clock()
