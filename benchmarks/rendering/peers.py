"""How fast do transformers, TRL and tinker-cookbook render? Run by `benchmarks.rendering.run`, in their own venv."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.rendering.measure import Conversation, Rendered, contestant_arguments, measure


def hf(arguments: argparse.Namespace, tokenizer: Any) -> None:
    """`apply_chat_template`, one conversation after the other: ids, and no word of what is to be trained."""

    def render(conversations: list[Conversation]) -> Sequence[Any]:
        return [tokenizer.apply_chat_template(messages, tokenize=True) for messages in conversations]

    measure(arguments, render, read=lambda encoding: (encoding["input_ids"], None))


def hf_batch(arguments: argparse.Namespace, tokenizer: Any) -> None:
    """`apply_chat_template` with all the conversations in one call."""

    def render(conversations: list[Conversation]) -> Sequence[Any]:
        return tokenizer.apply_chat_template(conversations, tokenize=True)["input_ids"]

    measure(arguments, render, read=lambda ids: (ids, None))


def trl(arguments: argparse.Namespace, tokenizer: Any) -> None:
    """What `SFTTrainer` does with a row of messages when assistant_only_loss is set: TRL's own template for Qwen3,
    which marks the answers, and transformers' mask of what is so marked."""
    from trl.chat_template_utils import qwen3_training_chat_template
    from trl.data_utils import _tokenize

    def render(conversations: list[Conversation]) -> Sequence[Any]:
        options = {"return_assistant_tokens_mask": True, "chat_template": qwen3_training_chat_template, "tools": None}
        return [_tokenize(tokenizer, messages, **options) for messages in conversations]

    measure(arguments, render, read=lambda encoding: (encoding["input_ids"], encoding["assistant_masks"]))


def trl_prompt_completion(arguments: argparse.Namespace, tokenizer: Any) -> None:
    """What `SFTTrainer` does with a row of a prompt and a completion: both the prompt and the whole are rendered."""
    from trl.data_utils import _tokenize, common_prefix_length

    def example(messages: Conversation) -> tuple[list[int], list[int]]:
        prompt = _tokenize(tokenizer, messages[:-1], add_generation_prompt=True)["input_ids"]
        whole = _tokenize(tokenizer, messages)["input_ids"]
        shared = common_prefix_length(prompt, whole)
        return whole, [0] * shared + [1] * (len(whole) - shared)

    def render(conversations: list[Conversation]) -> Sequence[Any]:
        return [example(messages) for messages in conversations]

    measure(arguments, render, read=lambda rendered: rendered)


def cookbook(arguments: argparse.Namespace, tokenizer: Any) -> None:
    """tinker-cookbook's Qwen3Renderer."""
    from tinker_cookbook.renderers import TrainOnWhat, get_renderer

    renderer = get_renderer("qwen3", tokenizer)

    def render(conversations: list[Conversation]) -> Sequence[Any]:
        return [
            renderer.build_supervised_example(messages, train_on_what=TrainOnWhat.LAST_ASSISTANT_MESSAGE)
            for messages in conversations
        ]

    measure(arguments, render, read=lambda rendered: (rendered[0].to_ints(), rendered[1].tolist()))


def cookbook_datum(arguments: argparse.Namespace, tokenizer: Any) -> None:
    """tinker-cookbook's way from messages to what a training service takes: rendered, cut, shifted and weighted."""
    from tinker_cookbook.renderers import TrainOnWhat, get_renderer
    from tinker_cookbook.supervised.data import conversation_to_datum

    renderer = get_renderer("qwen3", tokenizer)

    def render(conversations: list[Conversation]) -> Sequence[Any]:
        return [
            conversation_to_datum(messages, renderer, 4096, TrainOnWhat.LAST_ASSISTANT_MESSAGE)
            for messages in conversations
        ]

    def read(datum: Any) -> Rendered:
        """The example again: the first token, then what each position is to predict."""
        targets, weights = (datum.loss_fn_inputs[name].tolist() for name in ("target_tokens", "weights"))
        return [datum.model_input.to_ints()[0], *targets], [0, *(weight > 0 for weight in weights)]

    measure(arguments, render, read=read)


CONTESTANTS: Mapping[str, Callable[[argparse.Namespace, Any], None]] = {
    run.__name__: run for run in (hf, hf_batch, trl, trl_prompt_completion, cookbook, cookbook_datum)
}


def main() -> None:
    """Measure the one asked for."""
    from transformers import AutoTokenizer

    arguments = contestant_arguments(main.__doc__ or "", tuple(CONTESTANTS))
    CONTESTANTS[arguments.name](arguments, AutoTokenizer.from_pretrained(arguments.tokenizer))


if __name__ == "__main__":
    main()
