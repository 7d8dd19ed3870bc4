"""What do the contestants train on? The same tokenised rows in the same order, written once to a file.

A row is one alpaca question and answer in the model's own chat template; the loss is on the answer.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

IGNORED = -100
"""The label of a token that carries no loss (the prompt), as transformers and TRL spell it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """input_ids: N tokens, prompt included. labels: the same tokens, the prompt's replaced by -100."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained_tokens(self) -> int:
        """Tokens with a loss. The first token of a row has no prediction, so its label never counts."""
        return sum(label != IGNORED for label in self.labels[1:])


def read(path: Path, count: int) -> list[Row]:
    """The first `count` rows.

    Raises:
        ValueError: if the file holds fewer.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"][:count]
    if len(rows) < count:
        raise ValueError(f"{path} has {len(rows)} rows, {count} are needed: ask for fewer steps")
    return [Row(**row) for row in rows]


def prepare(*, model: str, data: Path, out: Path, max_length: int, seed: int) -> None:
    """Tokenise the alpaca file, shuffle it and write it: {"dropped": n, "rows": [{"input_ids", "labels"}, ...]}.

    Rows cut at `max_length` keep their start; a row whose whole answer was cut is dropped and counted.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    examples = json.loads(data.read_text(encoding="utf-8"))
    random.Random(seed).shuffle(examples)
    rows: list[dict[str, list[int]]] = []
    dropped = 0
    for example in examples:
        question = "\n".join(part for part in (example["instruction"], example["input"]) if part)
        user = {"role": "user", "content": question}
        answer = {"role": "assistant", "content": example["output"]}
        prompt = tokenizer.apply_chat_template([user], add_generation_prompt=True, return_dict=False)
        tokens = tokenizer.apply_chat_template([user, answer], return_dict=False)
        assert tokens[: len(prompt)] == prompt, "the template rewrites the prompt when the answer is added"
        labels = [IGNORED] * len(prompt) + tokens[len(prompt) :]
        if len(prompt) >= max_length:
            dropped += 1
            continue
        rows.append({"input_ids": tokens[:max_length], "labels": labels[:max_length]})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"dropped": dropped, "rows": rows}), encoding="utf-8")
    print(json.dumps({"rows": len(rows), "dropped": dropped}))


def main() -> None:
    """Write the rows file (needs transformers)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="alpaca_en_demo.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    prepare(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
