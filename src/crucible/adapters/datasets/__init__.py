"""Where may rows come from? Local files, the hub through `datasets`, packages, memory; `auto` takes the first fit."""

from crucible.adapters.datasets.hugging_face import HfDatasetsStore as HfDatasetsStore
from crucible.adapters.datasets.local_files import LocalFilesStore as LocalFilesStore
from crucible.adapters.datasets.memory import MemoryStore as MemoryStore
from crucible.adapters.datasets.packaged import PackagedStore as PackagedStore
from crucible.adapters.datasets.routed import RoutedStore as RoutedStore

__all__ = ["HfDatasetsStore", "LocalFilesStore", "MemoryStore", "PackagedStore", "RoutedStore"]
