"""How well did the model predict the trained tokens of these datums?"""

from collections.abc import Mapping, Sequence

from crucible.ports import Tokenizer
from crucible.ports.datum import Datum, TensorData
from crucible.train.nll import bits_per_byte, mean_nll


def token_nll(outputs: Sequence[Mapping[str, TensorData]], datums: Sequence[Datum]) -> float:
    """Mean negative log-likelihood per trained token, in nats: every trained token counts the same.

    The weights that train (they sum to 1 per example) say only which tokens are trained.
    """
    return mean_nll(_logprobs(outputs), [weights > 0 for weights in _weights(datums)])


def bits_per_byte_of(
    outputs: Sequence[Mapping[str, TensorData]], datums: Sequence[Datum], tokenizer: Tokenizer
) -> float:
    """Bits per UTF-8 byte of the trained text: comparable between tokenizers."""
    targets = [datum.loss_fn_inputs["target_tokens"].data for datum in datums]
    return bits_per_byte(_logprobs(outputs), _weights(datums), targets, tokenizer=tokenizer)


def _logprobs(outputs: Sequence[Mapping[str, TensorData]]):
    return [output["logprobs"].data for output in outputs]


def _weights(datums: Sequence[Datum]):
    return [datum.loss_fn_inputs["weights"].data for datum in datums]
