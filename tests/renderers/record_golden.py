"""How are the golden files written? From the real tokenizers and templates, by this script, for all renderers or some:

    python tests/renderers/record_golden.py [NAME ...]

To be run when a renderer asks its tokenizer for other texts than before, or the corpus grew. What it writes is to be
looked at before it is committed: references must not change without a reason.
"""

import sys
from collections.abc import Mapping
from typing import Any

from cases import CASES, Case
from comparing import tokens_of
from corpus import CORPUS
from families import family_folder
from recorded import GOLDEN, RecordingTokenizer, golden_text, packed
from references import Reference, reference

from crucible.adapters.tokenizer import HfTokenizer
from crucible.ports.tokenizer import Tokenizer
from crucible.train.renderers import get_renderer


def case_references(case: Case) -> dict[str, Reference]:
    """What the model's own template makes of a case's conversations."""
    return {name: reference(case.family, CORPUS[name], case.variables) for name in case.conversations}


def record(name: str, real: Tokenizer, references: Mapping[str, Reference]) -> dict[str, Any]:
    """A renderer's golden file: what it asked of the real tokenizer over its case, and the references."""
    tokenizer = RecordingTokenizer(real)
    for conversation in CASES[name].conversations:
        # A fresh renderer each time: one that remembers what it asked would ask in another order.
        tokens_of(get_renderer(name, tokenizer), CORPUS[conversation])
    return {
        "bos_id": tokenizer.bos_id,
        "eos_ids": sorted(tokenizer.eos_ids),
        "vocab_size": tokenizer.vocab_size,
        "special_tokens": dict(tokenizer.special_tokens),
        "encoded": tokenizer.encoded,
        "ordinary": tokenizer.ordinary,
        "references": packed(references),
    }


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for chosen in sys.argv[1:] or CASES:
        real = HfTokenizer.from_folder(family_folder(CASES[chosen].family))
        golden = record(chosen, real, case_references(CASES[chosen]))
        (GOLDEN / f"{chosen}.json").write_text(golden_text(golden), encoding="utf-8")
