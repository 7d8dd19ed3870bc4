"""Do tokenizer and model know the same tokens?"""

from crucible.train.checks.finding import Finding
from crucible.train.checks.seen import Examined

PADDED = 1.25
"""Embeddings are padded to round numbers (Qwen: 151,936 rows for 151,669 tokens, tiny vocabularies more in proportion),
never by a quarter: then the tokenizer is another model's."""


def vocabulary(examined: Examined) -> Finding:
    """Every rendered id has a row of the embedding, and the two sizes fit each other."""
    if examined.facts is None:
        why = "the backend does not say how large the model's vocabulary is"
        return Finding(check="vocabulary", status="skipped", sentence=why)
    rows, ids = examined.facts.vocab_size, examined.tokenizer.vocab_size
    place = next((row for row, example in examined.examples() if int(example.tokens.max()) >= rows), None)
    other = "Use the tokenizer that came with the model, or resize the model's embedding"
    if place is not None:
        return Finding(
            check="vocabulary",
            status="fail",
            sentence=f"a row holds a token that the model lacks: it has {rows:,} tokens, the tokenizer {ids:,}",
            where=place.origin,
            fix=other,
        )
    if ids > rows:
        told = f"the tokenizer has {ids:,} tokens, the model {rows:,}; no row looked at uses one of those beyond"
        return Finding(check="vocabulary", status="warn", sentence=told, fix=other)
    if rows > PADDED * ids:
        told = f"the model has {rows:,} tokens, the tokenizer only {ids:,}: it may be another model's"
        return Finding(check="vocabulary", status="warn", sentence=told, fix=other)
    told = f"the tokenizer's {ids:,} tokens are within the model's {rows:,}"
    return Finding(check="vocabulary", status="pass", sentence=told)
