"""What is known of a base model before it is loaded? Its family and sizes, where a backend can say."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A base model in a few numbers.

    model_type: the architecture's family as its configuration names it (`llama`, `qwen3`).
    hidden_size: width of its residual stream. vocab_size: rows of its embedding: every token id is below it.
    context_length: most positions, where its configuration states it.
    """

    model_type: str
    hidden_size: int
    vocab_size: int
    context_length: int | None = None
