"""How fast does this project render, and how fast is the tokenizer alone? Run by `benchmarks.rendering.run`."""

import argparse
from collections.abc import Sequence
from typing import Any

from benchmarks.rendering.measure import Conversation, Rendered, contestant_arguments, measure

from crucible.adapters.tokenizer import HfTokenizer
from crucible.ports.datum import Datum
from crucible.train.data.rendering import RowRenderer
from crucible.train.messages import Message
from crucible.train.renderers import RenderedExample, TrainOn, get_renderer

NAMES = ("ours", "ours_template", "ours_datum", "encode_batch", "encode_batch_fast")


def measure_renderer(arguments: argparse.Namespace, name: str) -> None:
    """The renderer of that name, one conversation after the other."""
    renderer = get_renderer(name, HfTokenizer.from_folder(arguments.tokenizer))

    def render(conversations: list[list[Message]]) -> Sequence[RenderedExample]:
        examples: list[RenderedExample] = []
        for messages in conversations:
            examples += renderer.build_supervised_examples(messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
        return examples

    measure(arguments, render, read=lambda example: (example.tokens.tolist(), example.weights.tolist()))


def measure_datums(arguments: argparse.Namespace) -> None:
    """All that a run does with a row: its form is checked, it is rendered, cut, shifted and weighted."""
    rows = RowRenderer(
        renderer=get_renderer("auto", HfTokenizer.from_folder(arguments.tokenizer)),
        train_on=TrainOn.ALL_ASSISTANT_MESSAGES,
        row_format="messages",
        max_length=4096,
        reduction="mean",
    )

    def render(conversations: list[Conversation]) -> Sequence[Datum]:
        return rows.batch((0, {"messages": messages}, "") for messages in conversations).datums

    def read(datum: Datum) -> Rendered:
        """The example again: the first token, then what each position is to predict."""
        targets, weights = (datum.loss_fn_inputs[name].data.tolist() for name in ("target_tokens", "weights"))
        chunk: Any = datum.model_input.chunks[0]
        return [chunk.tokens[0], *targets], [0, *(weight > 0 for weight in weights)]

    measure(arguments, render, read=read)


def measure_tokenizer(arguments: argparse.Namespace) -> None:
    """The tokenizers library alone: the finished texts to ids, all in one call."""
    import tokenizers

    template = HfTokenizer.from_folder(arguments.tokenizer).apply_chat_template
    backend = tokenizers.Tokenizer.from_file(str(arguments.tokenizer / "tokenizer.json"))
    encode = getattr(backend, arguments.name)

    def render(texts: list[str]) -> Sequence[list[int]]:
        return [encoding.ids for encoding in encode(texts, add_special_tokens=False)]

    measure(arguments, render, read=lambda ids: (ids, None), prepare=template)


def main() -> None:
    """Measure the one asked for."""
    arguments = contestant_arguments(main.__doc__ or "", NAMES)
    if arguments.name == "ours_datum":
        measure_datums(arguments)
    elif arguments.name.startswith("ours"):
        measure_renderer(arguments, "template" if arguments.name == "ours_template" else "auto")
    else:
        measure_tokenizer(arguments)


if __name__ == "__main__":
    main()
