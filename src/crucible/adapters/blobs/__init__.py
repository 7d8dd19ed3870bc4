"""Where are blobs kept? In a folder of this machine."""

from crucible.adapters.blobs.local import LocalBlobStore as LocalBlobStore

__all__ = ["LocalBlobStore"]
