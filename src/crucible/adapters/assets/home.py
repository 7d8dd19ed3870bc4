"""Where is kept what was fetched and converted?"""

import os
from pathlib import Path

import platformdirs


def crucible_home() -> Path:
    """The folder `CRUCIBLE_HOME` names, or else the user's cache folder for crucible. It need not exist yet."""
    named = os.environ.get("CRUCIBLE_HOME")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("crucible")
