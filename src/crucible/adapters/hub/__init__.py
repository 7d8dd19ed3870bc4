"""Which hubs are there? The Hugging Face hub."""

from crucible.adapters.hub.hugging_face import HfHubClient as HfHubClient

__all__ = ["HfHubClient"]
