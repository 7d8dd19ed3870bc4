"""What is a checkpoint called where names of workflows, loops and slots may be anything, and a file's may not?"""

import hashlib
import re

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_SHOWN = 60


def plain(name: str) -> str:
    """The name, if any file may have it; else what can be kept of it, and a hash that tells it from every other."""
    if _PLAIN.fullmatch(name):
        return name
    shown = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:_SHOWN]
    return f"{shown or 'unnamed'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def under(checkpoint: str, slot: str) -> str:
    """What one slot of a checkpoint is saved under, where several are."""
    return f"{checkpoint}.{plain(slot)}"
