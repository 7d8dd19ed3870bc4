"""Is a converted GGUF model the same model, to the last bit, in a folder that appears whole or not at all?"""

from pathlib import Path

import gguf
import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from crucible.engine.gguf import convert_gguf
from crucible.errors import ModelError

HIDDEN, FORWARD, CONTEXT = 32, 64, 64


def write(path: Path, *, architecture: str = "llama", pre: str = "smollm") -> dict[str, np.ndarray]:
    """A one-layer Llama with random weights in Q8_0; returns what those unpack to."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|end|>", *alphabet, "ĊĊ"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FORWARD)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (len(tokens) - 1)])
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages[0].content }}")
    shapes = {"token_embd": (len(tokens), HIDDEN), "output": (len(tokens), HIDDEN)}
    shapes |= {f"blk.0.attn_{name}": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{name}": (FORWARD, HIDDEN) for name in ("gate", "up")} | {
        "blk.0.ffn_down": (HIDDEN, FORWARD)
    }
    rng, unpacked = np.random.default_rng(0), {}
    for name, shape in shapes.items():
        packed = gguf.quantize(rng.normal(size=shape).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        unpacked[name] = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", rng.normal(size=HIDDEN).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return unpacked


def test_the_folder_holds_the_unpacked_weights_exactly_and_loads(tmp_path: Path) -> None:
    unpacked = write(tmp_path / "tiny.gguf")
    folder = convert_gguf(tmp_path / "tiny.gguf", tmp_path / "cache" / "tiny")
    tensors = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    np.testing.assert_array_equal(tensors["model.embed_tokens.weight"].numpy(), unpacked["token_embd"])
    np.testing.assert_array_equal(tensors["model.layers.0.mlp.down_proj.weight"].numpy(), unpacked["blk.0.ffn_down"])
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    assert model.generation_config.eos_token_id == 0
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(("pre", "expected"), [("smollm", ["ĊĊ", "1"]), ("gpt-2", ["Ċ", "Ċ", "1"])])
def test_digits_are_split_off_first_where_the_model_was_trained_so(
    tmp_path: Path, pre: str, expected: list[str]
) -> None:
    write(tmp_path / "tiny.gguf", pre=pre)
    tokenizer = AutoTokenizer.from_pretrained(convert_gguf(tmp_path / "tiny.gguf", tmp_path / "tiny"))
    assert tokenizer.tokenize("\n\n1") == expected
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


@pytest.mark.parametrize("size", [2, 100, 3000, 30_000])
def test_a_truncated_file_is_a_model_error_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    write(tmp_path / "tiny.gguf")
    whole = (tmp_path / "tiny.gguf").read_bytes()
    assert size < len(whole)
    (tmp_path / "cut.gguf").write_bytes(whole[:size])
    with pytest.raises(ModelError, match="truncated or damaged"):
        convert_gguf(tmp_path / "cut.gguf", tmp_path / "cache" / "cut")
    assert not (tmp_path / "cache").exists()


def test_an_architecture_that_transformers_cannot_read_is_a_model_error(tmp_path: Path) -> None:
    write(tmp_path / "odd.gguf", architecture="nosuch")
    with pytest.raises(ModelError, match="transformers cannot read this GGUF model"):
        convert_gguf(tmp_path / "odd.gguf", tmp_path / "cache" / "odd")
    assert list((tmp_path / "cache").iterdir()) == []


def test_converting_shows_no_progress_of_another_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "tiny.gguf")
    capfd.readouterr()
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "tiny")
    assert capfd.readouterr() == ("", "")


def test_the_folder_of_another_process_stays(tmp_path: Path) -> None:
    write(tmp_path / "tiny.gguf")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("theirs")
    assert convert_gguf(tmp_path / "tiny.gguf", tmp_path / "tiny") == tmp_path / "tiny"
    assert (tmp_path / "tiny" / "config.json").read_text() == "theirs"
