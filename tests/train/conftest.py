"""A real byte-level BPE tokenizer, trained here on a few lines, with the chat templates that the laws run over."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from crucible.adapters.tokenizer import HfTokenizer
from crucible.ports.tokenizer import Tokenizer
from crucible.train.renderers import Renderer, get_renderer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin|>", "<|header|>", "<|end_header|>", "<|eot|>")

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a test.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|header|>' + message['role'] + '<|end_header|>\n\n' + message['content'] | trim + '<|eot|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|header|>assistant<|end_header|>\n\n' }}{% endif %}"
)
# As Qwen3: reasoning is written for the last turn only, as an empty block where there is none.
THINKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% set parts = message['content'].split('</think>') %}"
    "{% if loop.last %}{{ '<think>\n' + (parts[0].split('<think>')[-1].strip() if parts | length > 1 else '')"
    " + '\n</think>\n\n' }}{% endif %}{{ parts[-1].lstrip('\n') }}"
    "{% else %}{{ message['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_STOP = (
    "{% for message in messages %}{{ '### ' + message['role'] + ':\n' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)
# As Phi-3: an EOS after the whole conversation, which is not there while it goes on.
EOS_AT_THE_END = (
    "{% for message in messages %}{{ '<|header|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|header|>assistant\n' }}{% else %}{{ '<|endoftext|>' }}{% endif %}"
)
# The prompt ends in a space, which byte-level BPE joins to the answer's first word.
STRADDLING = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)

_LINES = [
    "user assistant system tool think You are a test. The quick brown fox jumps over the lazy dog.",
    "What is the capital of France? The capital of France is Paris. Natalia sold 48 clips in May.",
    "### user: ### assistant: User: Assistant:\n\n <think>\n</think>\n\n I said hello and she said good bye.",
] * 4


# Llama 3 keeps line breaks together; GPT-2 (and SmolLM2) splits the last one off before a word.
_LLAMA_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@cache
def _fast(words: str) -> FastTokenizer:
    fast = FastTokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if words == "llama":
        split = pre_tokenizers.Split(Regex(_LLAMA_WORDS), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        fast.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(_LINES, trainer)
    return fast


def _write(folder: Path, template: str | None, *, eos: Sequence[str], bos: str | None, words: str) -> None:
    fast = _fast(words)
    fast.save(str(folder / "tokenizer.json"))
    named = {"chat_template": template, "eos_token": eos[0], "bos_token": bos}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [fast.token_to_id(text) for text in eos]})
    )


_TOKENIZERS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "chatml": (CHATML, {"bos": "<|im_start|>"}),
    "llama": (LLAMA, {"eos": ("<|eot|>", "<|endoftext|>"), "bos": "<|begin|>", "words": "llama"}),
    "base_chatml": (CHATML, {"eos": ("<|endoftext|>",)}),
    "thinking": (THINKING, {}),
    "no_stop": (NO_STOP, {"eos": ("<|endoftext|>",)}),
    "eos_at_the_end": (EOS_AT_THE_END, {"eos": ("<|im_end|>", "<|endoftext|>")}),
    "straddling": (STRADDLING, {}),
    "plain": (None, {"eos": ("<|endoftext|>",), "bos": "<|begin|>"}),
}


MakeTokenizer = Callable[..., HfTokenizer]


@pytest.fixture(scope="session")
def make_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> MakeTokenizer:
    """Writes a model's tokenizer files, with a template of the test's own, and reads them."""

    def make(
        template: str | None,
        *,
        eos: Sequence[str] = ("<|im_end|>",),
        bos: str | None = None,
        words: str = "gpt2",
        kind: type[HfTokenizer] = HfTokenizer,
    ) -> HfTokenizer:
        folder = tmp_path_factory.mktemp("tokenizer")
        _write(folder, template, eos=eos, bos=bos, words=words)
        return kind.from_folder(folder)

    return make


@pytest.fixture(scope="session")
def tokenizers(make_tokenizer: MakeTokenizer) -> dict[str, Tokenizer]:
    """One tokenizer per template, by name; `plain` has none, `base_chatml` does not list <|im_end|> as EOS."""
    return {name: make_tokenizer(template, **options) for name, (template, options) in _TOKENIZERS.items()}


@pytest.fixture(scope="session")
def renderers(tokenizers: dict[str, Tokenizer]) -> dict[str, Renderer]:
    """The renderer that each tokenizer gets by itself; `plain` has role_colon."""
    return {name: get_renderer("auto", tokenizer) for name, tokenizer in tokenizers.items()}
