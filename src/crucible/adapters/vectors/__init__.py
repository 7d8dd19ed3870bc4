"""Where are vectors kept? In this process's memory."""

from crucible.adapters.vectors.memory import MemoryVectorStore as MemoryVectorStore

__all__ = ["MemoryVectorStore"]
