"""Does the tokenizer adapter say what transformers says, and give every text back?"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from crucible.adapters.assets import fetch, resolve_model
from crucible.adapters.tokenizer import HfTokenizer, HfTokenizerStore
from crucible.errors import MissingExtraError, ModelError, RendererError

TEMPLATE = """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\n' }}
{%- if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}
{%- if message.reasoning_content %}{{ '<think>' + message.reasoning_content + '</think>' }}{% endif %}
{%- if message.content is not string %}{{ raise_exception('content must be text') }}{% endif %}
{%- generation %}{{ message['content'] + eos_token + '\n' }}{%- endgeneration %}
{%- if message.role == 'stop' %}{% break %}{% endif %}
{%- endfor %}
{%- if tools %}{{ tools | tojson(indent=2) }}{% endif %}
{%- if enable_thinking is defined %}{{ 'thinking: ' ~ enable_thinking }}{% endif %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
CORPUS = ["the cat sat on the mat", "one and two and three", "2 + 2 = 4", "naïve café, größer: 東京 🙂"] * 20
CHATS = [
    [{"role": "user", "content": "hi"}],
    [{"role": "user", "content": "2 < 3 & 'é'"}, {"role": "assistant", "content": " four\n", "thinking": "hm"}],
    [{"role": "assistant", "content": "", "tool_calls": [{"name": "é<", "arguments": {"a": [1, None, 0.5]}}]}],
    [{"role": "stop", "content": "a"}, {"role": "user", "content": "unseen"}],
]
TEXTS = ["the  cat\n\n1. naïve 東京🙂", " <|im_end|>\nthe<think>cat</think>", "", "\x00\ufffd"]


def train(folder: Path) -> Path:
    """A byte-level BPE tokenizer with a ChatML template, in the files of a model's folder."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.post_processor = tokenizers.processors.ByteLevel(trim_offsets=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": {"content": "<|im_end|>", "__type": "AddedToken"},
        "added_tokens_decoder": {
            "300": {"content": "<think>", "special": False, "normalized": False, "lstrip": False, "rstrip": False}
        },
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> HfTokenizer:
    return HfTokenizer.from_folder(folder)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_and_decoded_text_are_those_of_transformers(folder: Path, tokenizer: HfTokenizer, text: str) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    ids = list(tokenizer.encode(text).ids)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == theirs.decode(ids) == text
    assert tokenizer.decode(ids, skip_special=True) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("options", [{}, {"add_generation_prompt": True}, {"enable_thinking": False}])
def test_the_rendered_chat_is_that_of_transformers(
    folder: Path, tokenizer: HfTokenizer, chat: list[dict[str, object]], options: dict[str, object]
) -> None:
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(chat, tokenize=False, **options)
    assert tokenizer.apply_chat_template(chat, **options) == theirs


def test_tools_reach_the_template_unescaped(folder: Path, tokenizer: HfTokenizer) -> None:
    tools = [{"type": "function", "function": {"name": "größe", "description": "<b>"}}]
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(CHATS[0], tools=tools, tokenize=False)
    assert tokenizer.apply_chat_template(CHATS[0], tools=tools) == theirs
    assert "größe" in theirs


@given(text=st.text())
def test_every_text_comes_back(tokenizer: HfTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@given(text=st.text())
def test_offsets_cover_every_character_in_order(tokenizer: HfTokenizer, text: str) -> None:
    covered = 0
    for start, end in tokenizer.encode(text).offsets:
        assert start <= covered <= end
        covered = end
    assert covered == len(text)


def test_every_id_is_below_the_vocabulary_size_and_others_are_refused(tokenizer: HfTokenizer) -> None:
    assert tokenizer.vocab_size == 301
    assert tokenizer.decode([300]) == "<think>"
    with pytest.raises(ValueError, match="301 is outside"):
        tokenizer.decode([0, 301])
    with pytest.raises(ValueError, match="-1 is outside"):
        tokenizer.decode([-1])


def test_special_tokens_and_the_ends_of_a_generation_come_from_all_files(tokenizer: HfTokenizer) -> None:
    assert tokenizer.special_tokens == {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    assert tokenizer.eos_ids == {0, 2}
    assert tokenizer.bos_id == 1


def test_a_token_reads_as_it_stands_in_a_text(tokenizer: HfTokenizer) -> None:
    ids = tokenizer.encode("the cat<|im_end|>").ids
    assert "".join(tokenizer.token_text(token) for token in ids) == "the cat<|im_end|>"


def test_a_template_file_wins_and_the_tool_template_serves_tools(tmp_path: Path) -> None:
    folder = train(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }} {{ bos_token }}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools[0].name }}")
    tokenizer = HfTokenizer.from_folder(folder)
    assert tokenizer.apply_chat_template(CHATS[0]) == "hi <|im_start|>"
    assert tokenizer.apply_chat_template(CHATS[0], tools=[{"name": "add"}]) == "add"
    assert tokenizer.chat_template == "{{ messages[0].content }} {{ bos_token }}"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "user", "content": None}, "content must be text"),
        ({"content": "no role"}, "has no attribute 'role'"),
        ({"role": "user", "content": {1, 2}}, "plain JSON values, not set"),
    ],
)
def test_a_conversation_that_the_template_refuses_is_a_renderer_error(
    tokenizer: HfTokenizer, message: dict[str, object], said: str
) -> None:
    with pytest.raises(RendererError, match=said):
        tokenizer.apply_chat_template([message])


def test_a_template_that_asks_for_the_date_gets_the_same_one_every_day(tmp_path: Path) -> None:
    folder = train(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}: {{ messages[0].content }}")
    assert HfTokenizer.from_folder(folder).apply_chat_template(CHATS[0]) == "26 Jul 2024: hi"


def test_a_model_without_a_template_says_so(tmp_path: Path) -> None:
    folder = train(tmp_path)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    tokenizer = HfTokenizer.from_folder(folder)
    assert tokenizer.chat_template is None
    with pytest.raises(RendererError, match=r"no chat template.*role_colon"):
        tokenizer.apply_chat_template(CHATS[0])


def test_a_broken_template_is_a_renderer_error(tmp_path: Path) -> None:
    folder = train(tmp_path)
    (folder / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(RendererError, match="not valid"):
        HfTokenizer.from_folder(folder).apply_chat_template(CHATS[0])


@pytest.mark.parametrize(("name", "content"), [("tokenizer.json", "{}"), ("tokenizer_config.json", "[")])
def test_a_damaged_file_is_a_model_error(tmp_path: Path, name: str, content: str) -> None:
    folder = train(tmp_path)
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=r"cannot be read|not JSON"):
        HfTokenizer.from_folder(folder)


def test_a_folder_without_a_tokenizer_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        HfTokenizer.from_folder(tmp_path)


def test_a_missing_library_gets_the_install_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"crucible-kitchen\[tokenizer\]"):
        HfTokenizer.from_folder(folder)


def test_a_store_reads_each_folder_once(folder: Path) -> None:
    store = HfTokenizerStore(resolve_model=lambda _: folder)
    assert store.load("one name") is store.load("another")


def test_a_tokenizer_needs_neither_torch_nor_transformers(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from crucible.adapters.tokenizer import HfTokenizer\n"
        f"t = HfTokenizer.from_folder(Path({str(folder)!r})); t.encode('a')\n"
        "t.apply_chat_template([{'role': 'user', 'content': 'a'}])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.slow
def test_the_packaged_models_tokenizer_is_that_of_transformers() -> None:
    folder = resolve_model("smollm2-135m")
    ours, theirs = HfTokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in fetch("conversations").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        text = theirs.apply_chat_template(row["messages"], tokenize=False)
        assert ours.apply_chat_template(row["messages"]) == text
        assert list(ours.encode(text).ids) == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(ours.encode(text).ids) == text
    assert ours.vocab_size == len(theirs) == 49_152
    assert ours.eos_ids == {theirs.eos_token_id}
