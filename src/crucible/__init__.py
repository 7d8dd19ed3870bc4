"""Crucible Kitchen: LLM post-training recipes that run on a laptop, a cluster or a service."""

__version__ = "0.1.0"
