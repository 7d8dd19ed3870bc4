"""Where do the cookbook's tests get the cookbook, data for its recipes, and a server to run them against?"""

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

VERSION = "0.6.1"
MODEL = "Qwen/Qwen3-8B"
"""A name that the cookbook knows a renderer for: the tiny model goes by it."""
ANSWERER = "Qwen/Qwen3.5-9B"
"""The other player of twenty_questions, whose name is no option of the recipe."""

# The rest of what the cookbook imports (torch, transformers, datasets, the SDK) is in the tests' own environment.
_NEEDED = ("aiohttp", "blobfile", "cloudpickle", "pillow", "pyrage", "termcolor", "tiktoken", "tqdm")
_NEEDED_BY_RECIPES = ("math-verify", "pylatexenc", "sympy", "textarena")


def installed(folder: Path) -> Path:
    """The Python of an environment that has the cookbook, as the package index has it."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    (own,) = (folder / "lib").glob("python*/site-packages")
    (own / "outer.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
    pip = [str(python), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, *_NEEDED, *_NEEDED_BY_RECIPES], check=True, timeout=900)
    # Without its dependencies: it also names a renderers' package for models that are not served here.
    subprocess.run([*pip, "--no-deps", f"tinker-cookbook=={VERSION}"], check=True, timeout=300)
    return python


def write_data(folder: Path, model: Path) -> Path:
    """A working folder: the tokenizer and the hub data sets that the recipes name, as folders of those names."""
    for name in (MODEL, ANSWERER):
        (folder / name).mkdir(parents=True)
        for file in ("tokenizer.json", "tokenizer_config.json", "config.json"):
            shutil.copy(model / file, folder / name / file)
    _write(folder / "HuggingFaceH4/no_robots/train.jsonl", [_conversation(i) for i in range(96)])
    _write(folder / "HuggingFaceH4/no_robots/test.jsonl", [_conversation(i) for i in range(96, 112)])
    _write(folder / "conversations.jsonl", [_conversation(i) for i in range(96)])
    questions = [{"question": f"What is {i} plus 2?", "answer": f"It is {i + 2}.\n#### {i + 2}"} for i in range(32)]
    for split in ("train", "test"):
        _write(folder / f"openai/gsm8k/{split}.jsonl", questions)
    (folder / "openai/gsm8k/README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n"
        "  - split: train\n    path: train.jsonl\n  - split: test\n    path: test.jsonl\n---\n"
    )
    talks = [{"chosen": _talk(f"it is {i}"), "rejected": _talk(f"no idea {i}")} for i in range(32)]
    for split in ("train", "test"):
        _write(folder / f"Anthropic/hh-rlhf/{split}.jsonl", talks)
    _write(folder / "zwhe99/DeepMath-103K/train.jsonl", [{"question": f"What is {i} plus 3?"} for i in range(32)])
    return folder


def write_longer_model(model: Path, folder: Path) -> Path:
    """The tiny model with a context of 4096 tokens, which its rotary positions allow, and Qwen's marks of thinking."""
    shutil.copytree(model, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<think>", "</think>"])  # ids that the model has to spare
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    return folder


def _talk(answer: str) -> str:
    return f"\n\nHuman: what is it?\n\nAssistant: {answer}"


def _conversation(number: int) -> dict[str, object]:
    asked = {"role": "user", "content": f"what is {number} plus {number % 7}?"}
    return {"messages": [asked, {"role": "assistant", "content": f"it is {number + number % 7}"}]}


def _write(path: Path, rows: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@contextmanager
def crucible_serve(model: Path, folder: Path) -> Iterator[str]:
    """`crucible serve` of a model under both names, as a process of its own; gives the URL that it prints."""
    models = [f"--model={name}={model}" for name in (MODEL, ANSWERER)]
    command = [sys.executable, "-m", "crucible", "serve", *models, "--port", "0"]
    with (folder / "serve.log").open("w") as log:
        serving = subprocess.Popen(
            [*command, "--data", str(folder / "data"), "--threads", "1"], stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert serving.stdout is not None
            line = next(line for line in iter(serving.stdout.readline, "") if "TINKER_BASE_URL=" in line)
            yield line.strip().rpartition("=")[2]
        finally:
            serving.terminate()
            serving.communicate(timeout=60)


def run_recipe(python: Path, url: str, folder: Path, module: str, *arguments: str) -> list[dict[str, float]]:
    """Run a recipe of the cookbook to its end, in `folder`; gives the lines of its metrics.jsonl."""
    log_path = next(each.removeprefix("log_path=") for each in arguments if each.startswith("log_path="))
    environment = {
        **os.environ,
        "TINKER_BASE_URL": url,
        "TINKER_API_KEY": "tml-local",
        "TINKER_TELEMETRY": "0",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "OMP_NUM_THREADS": "1",
    }
    ran = subprocess.run(
        [str(python), "-m", f"tinker_cookbook.recipes.{module}", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]
    return [json.loads(line) for line in (Path(log_path) / "metrics.jsonl").read_text().splitlines()]
