"""How is text turned into a model's tokens without the model? Hugging Face's `tokenizers`, no torch."""

from crucible.adapters.tokenizer.store import HfTokenizerStore as HfTokenizerStore
from crucible.adapters.tokenizer.tokenizer import HfTokenizer as HfTokenizer

__all__ = ["HfTokenizer", "HfTokenizerStore"]
