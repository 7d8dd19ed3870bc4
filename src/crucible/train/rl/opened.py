"""Who sees to it that every environment is closed, and once?"""

import asyncio
import contextlib
from collections.abc import Sequence

from crucible.train.rl.types import Env


class OpenEnvironments:
    """The environments of a group that were made and are not closed yet, those of members that try again among them."""

    def __init__(self) -> None:
        self._open: list[Env] = []

    def add(self, envs: Sequence[Env]) -> None:
        """They were made."""
        self._open += envs

    async def close(self, env: Env) -> None:
        """Close it, unless it is closed. If this is cancelled, the closing is still waited for."""
        if not any(one is env for one in self._open):
            return
        self._open = [one for one in self._open if one is not env]
        closing = asyncio.ensure_future(env.close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait([closing])
            raise

    async def close_all(self) -> None:
        """Close those that nobody played, or whose playing was cancelled. What goes wrong in it changes no outcome."""
        for env in tuple(self._open):
            with contextlib.suppress(Exception):
                await self.close(env)
