"""Who deletes checkpoints whose time is over?"""

import asyncio
import logging

from crucible.errors import PortError, UserError
from crucible.server.served import Served

_LOG = logging.getLogger(__name__)


async def sweep_forever(served: Served) -> None:
    """Look every `limits.sweep_seconds`, until cancelled. What cannot be deleted now is tried again next time."""
    while True:
        await asyncio.sleep(served.limits.sweep_seconds)
        try:
            gone = await asyncio.to_thread(served.vault.sweep)
        except (OSError, PortError, UserError) as error:
            _LOG.warning("expired checkpoints could not be deleted: %s", error)
        else:
            if gone:
                _LOG.info("deleted %d expired checkpoints", gone)
