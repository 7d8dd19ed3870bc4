"""Which chat models are there? Any that speaks OpenAI's HTTP protocol."""

from crucible.adapters.llm.openai import OpenAIClient as OpenAIClient

__all__ = ["OpenAIClient"]
