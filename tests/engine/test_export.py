"""Do plain transformers and peft, in a program of their own, compute what the engine computes?"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from crucible.adapters.torch import TorchBackend
from crucible.engine.export import export_merged, export_peft
from crucible.engine.options import ExportDTypeName
from crucible.errors import CheckpointError, UserError
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.training_client import AdamParams, SessionConfig, TrainingClient
from crucible.testing.fakes import FakeTokenizerStore

TOKENS = [int(token) for token in np.random.default_rng(0).integers(0, 96, size=40)]
PROGRAM = """
import json, sys, warnings
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

warnings.simplefilter("ignore")
torch.set_num_threads(1)

@torch.no_grad()
def nll(model):
    return -model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].mean().item()

ids = torch.tensor([json.loads(sys.argv[1])])
for folders in json.loads(sys.argv[2]):
    base, merged = (AutoModelForCausalLM.from_pretrained(folders[key]) for key in ("base", "merged"))
    print(json.dumps([nll(base), nll(PeftModel.from_pretrained(base, folders["peft"])), nll(merged)]))
"""


@dataclass(frozen=True)
class Trained:
    """A base model's folder, a checkpoint trained on it, and the trained model's mean NLL of TOKENS."""

    base: Path
    checkpoint: Path
    nll: float


def make_base(folder: Path, *, tied: bool, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def train(folder: Path, *, tied: bool, **layers: bool) -> Trained:
    torch.set_num_threads(1)
    base = make_base(folder / "base", tied=tied)
    targets = {"target_tokens": TensorData(TOKENS[1:])}
    datum = Datum(model_input=ModelInput.from_ints(TOKENS[:-1]), loss_fn_inputs=targets)
    with training(folder, base) as client:
        session = client.start_session(SessionConfig(model="tiny", lora_rank=4, lora_alpha=16, **layers)).result()
        for _ in range(6):
            client.forward_backward(session, [datum])
            client.optim_step(session, AdamParams(learning_rate=0.03))
        output = client.forward(session, [datum]).result()
        saved = client.save_weights_for_sampler(session, "final").result()
    return Trained(base, Path(saved.path), output.metrics["loss:sum"] / (len(TOKENS) - 1))


@contextmanager
def training(folder: Path, base: Path) -> Iterator[TrainingClient]:
    """The engine on `base`, whatever the model's name."""
    backend = TorchBackend(
        checkpoint_dir=folder / "checkpoints",
        resolve_model=lambda _: base,
        tokenizers=FakeTokenizerStore(),
        device="cpu",
    )
    with closing(backend):
        yield backend.training_client


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("trained"), tied=True)


def test_both_exports_give_other_programs_the_engines_nll(tmp_path: Path) -> None:
    jobs: list[dict[str, str]] = []
    ours: list[float] = []
    for tied, layers in ((True, {}), (False, {"train_attn": False}), (True, {"train_unembed": True})):
        case = train(tmp_path / str(len(jobs)), tied=tied, **layers)
        peft = export_peft(case.checkpoint, case.base.with_name("peft"), model_folder=case.base)
        merged = export_merged(case.checkpoint, case.base.with_name("merged"), model_folder=case.base)
        jobs.append({"base": str(case.base), "peft": str(peft), "merged": str(merged)})
        ours.append(case.nll)
    command = [sys.executable, "-c", PROGRAM, json.dumps(TOKENS), json.dumps(jobs)]
    done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    for line, expected in zip(done.stdout.splitlines(), ours, strict=True):
        base, *exported = json.loads(line)
        assert base - expected > 0.5
        assert exported == pytest.approx([expected] * 2, abs=1e-3)


def test_an_export_brings_the_tokenizer_and_says_what_it_is(tmp_path: Path, trained: Trained) -> None:
    for export in (export_peft, export_merged):
        out = export(trained.checkpoint, tmp_path / export.__name__, model_folder=trained.base)
        assert (out / "tokenizer.json").read_text() == "{}"
        assert "rank 4" in (out / "README.md").read_text()
    config = json.loads((tmp_path / "export_peft" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(trained.base)
    assert {path.name for path in tmp_path.iterdir()} == {"export_peft", "export_merged"}


def test_a_merged_model_has_the_dtype_asked_for(tmp_path: Path, trained: Trained) -> None:
    for dtype in get_args(ExportDTypeName):
        out = export_merged(trained.checkpoint, tmp_path / dtype, model_folder=trained.base, dtype=dtype)
        tensors = load_file(out / "model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}
        assert json.loads((out / "config.json").read_text())["dtype"] == dtype
    with pytest.raises(UserError, match=r"not a known dtype.*int8.*Use float32 or bfloat16 or float16"):
        export_merged(trained.checkpoint, tmp_path / "other", model_folder=trained.base, dtype="int8")


def test_weights_that_the_dtype_cannot_hold_are_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tied=True)
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.mlp.down_proj.weight"][0, 0] = 1e5
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with training(tmp_path, base) as client:
        session = client.start_session(SessionConfig(model="tiny", lora_rank=4)).result()
        saved = client.save_weights_for_sampler(session, "final").result()
    with pytest.raises(UserError, match=r"down_proj\.weight has values that float16 cannot hold.*Use bfloat16"):
        export_merged(Path(saved.path), tmp_path / "out", model_folder=base, dtype="float16")
    assert not (tmp_path / "out").exists()


def test_exporting_shows_no_progress_of_another_program(
    tmp_path: Path, trained: Trained, capfd: pytest.CaptureFixture[str]
) -> None:
    export_merged(trained.checkpoint, tmp_path / "merged", model_folder=trained.base)
    assert capfd.readouterr() == ("", "")


def test_a_place_that_is_taken_is_refused_and_an_empty_folder_is_not(tmp_path: Path, trained: Trained) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_peft(trained.checkpoint, out, model_folder=trained.base)
    for export in (export_peft, export_merged):
        with pytest.raises(UserError, match="something at the place to export to"):
            export(trained.checkpoint, out, model_folder=trained.base)


def test_a_place_that_cannot_be_written_is_a_user_error(trained: Trained) -> None:
    with pytest.raises(UserError, match="could not be written"):
        export_peft(trained.checkpoint, trained.base / "config.json" / "out", model_folder=trained.base)


def test_another_base_model_or_no_checkpoint_is_a_checkpoint_error(tmp_path: Path, trained: Trained) -> None:
    other = make_base(tmp_path / "other", tied=True, seed=1)
    with pytest.raises(CheckpointError, match="another base model"):
        export_merged(trained.checkpoint, tmp_path / "out", model_folder=other)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        export_peft(tmp_path, tmp_path / "out", model_folder=trained.base)
    assert not (tmp_path / "out").exists()
