"""How is a renderer tested on a model's tokenizer without having it? What it once said is replayed.

A golden file holds a renderer's references and all that the renderer asked of the real tokenizer while it wrote the
corpus. `record_golden.py` writes the files.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from references import Reference, Refusal

from crucible.errors import RendererError
from crucible.ports.tokenizer import Encoding, Tokenizer

GOLDEN = Path(__file__).parent / "golden"


class TemplatelessTokenizer(Tokenizer):
    """A tokenizer of a model without a chat template."""

    @property
    def chat_template(self) -> str | None:
        return None

    def apply_chat_template(self, messages: object, **_: object) -> str:  # noqa: ARG002  (the port's)
        raise RendererError.of("the model has no chat template")


class RecordedTokenizer(TemplatelessTokenizer):
    """Replays a golden file: a text or a run of ids that was not recorded is a LookupError.

    Its encodings have no offsets. Special tokens that are only reserved are left out.
    """

    def __init__(self, golden: Mapping[str, Any]) -> None:
        self._golden = golden
        self._names = {token: text for text, token in golden["special_tokens"].items()}
        pieces = {**golden["encoded"], **golden["ordinary"]}
        self._texts = {tuple(ids): text for text, ids in pieces.items()}

    def encode(self, text: str) -> Encoding:
        return Encoding(tuple(_known(self._golden["encoded"], text)), ())

    def encode_ordinary(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(_known(self._golden["ordinary"], text)) for text in texts]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        text, run = "", list[int]()
        for token in (*ids, None):
            if token is not None and token not in self._names:
                run.append(token)
                continue
            text += _known(self._texts, tuple(run)) if run else ""
            text += "" if token is None or skip_special else self._names[token]
            run.clear()
        return text

    def token_text(self, token: int) -> str:
        return self.decode([token])

    @property
    def vocab_size(self) -> int:
        return self._golden["vocab_size"]

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return self._golden["special_tokens"]

    @property
    def eos_ids(self) -> frozenset[int]:
        return frozenset(self._golden["eos_ids"])

    @property
    def bos_id(self) -> int | None:
        return self._golden["bos_id"]


class RecordingTokenizer(TemplatelessTokenizer):
    """A real tokenizer without its chat template, which notes what it is asked."""

    def __init__(self, real: Tokenizer) -> None:
        self._real = real
        self.encoded: dict[str, list[int]] = {}
        self.ordinary: dict[str, list[int]] = {}

    def encode(self, text: str) -> Encoding:
        encoding = self._real.encode(text)
        self.encoded[text] = list(encoding.ids)
        return encoding

    def encode_ordinary(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._real.encode_ordinary(texts)
        self.ordinary.update(zip(texts, encoded, strict=True))
        return encoded

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        return self._real.decode(ids, skip_special=skip_special)

    def token_text(self, token: int) -> str:
        return self._real.token_text(token)

    @property
    def vocab_size(self) -> int:
        return self._real.vocab_size

    @property
    def special_tokens(self) -> Mapping[str, int]:
        reserved = ("<SPECIAL_", "<|reserved_", "<｜place▁holder")
        return {text: token for text, token in self._real.special_tokens.items() if not text.startswith(reserved)}

    @property
    def eos_ids(self) -> frozenset[int]:
        return self._real.eos_ids

    @property
    def bos_id(self) -> int | None:
        return self._real.bos_id


def _known(table: Mapping[Any, Any], key: Any) -> Any:
    if key not in table:
        raise LookupError(f"not recorded: {key!r}. If the renderer is meant to ask this, run record_golden.py")
    return table[key]


def read_golden(name: str) -> dict[str, Any]:
    """A renderer's golden file."""
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def golden_text(golden: Mapping[str, Any]) -> str:
    """A golden file's text: an entry a line, so that a change shows where it is."""
    parts: list[str] = []
    for key, value in golden.items():
        inner = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if isinstance(value, dict):
            entries = cast("dict[str, Any]", value)
            items = [
                f"{json.dumps(name, ensure_ascii=False)}:{json.dumps(item, ensure_ascii=False, separators=(',', ':'))}"
                for name, item in entries.items()
            ]
            inner = "{\n" + ",\n".join(items) + "\n}"
        parts.append(f"{json.dumps(key)}: {inner}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def packed(references: Mapping[str, Reference]) -> dict[str, Any]:
    """References as JSON. Tokens are how many are shared with others, and the rest: a whole shares with the first
    conversation's, a prompt with its own whole. A refusal is its reason."""
    first = next((one.whole for one in references.values() if not isinstance(one.whole, Refusal)), list[int]())
    return {
        name: {"whole": _shared(one.whole, first), "prompt": _shared(one.prompt, one.whole)}
        for name, one in references.items()
    }


def unpacked(packed: Mapping[str, Any], first: Sequence[int]) -> Reference:
    """One of them again. first: the tokens of the first conversation that was not refused, as they are there."""
    whole = _joined(packed["whole"], first)
    return Reference(whole=whole, prompt=_joined(packed["prompt"], [] if isinstance(whole, Refusal) else whole))


def references_in(golden: Mapping[str, Any]) -> dict[str, Reference]:
    """All references of a golden file."""
    packed = golden["references"]
    first = next((one["whole"] for one in packed.values() if not isinstance(one["whole"], str)), [0])
    # The first shares nothing: its entry has all of its tokens.
    return {name: unpacked(one, first[1:]) for name, one in packed.items()}


def _shared(tokens: list[int] | Refusal, others: list[int] | Refusal) -> list[int] | str:
    if isinstance(tokens, Refusal):
        return tokens.reason
    other = [] if isinstance(others, Refusal) or tokens is others else others
    pairs = enumerate(zip(other, tokens, strict=False))
    shared = next((at for at, (one, same) in pairs if one != same), min(len(other), len(tokens)))
    return [shared, *tokens[shared:]]


def _joined(packed: list[int] | str, others: Sequence[int]) -> list[int] | Refusal:
    return Refusal(reason=packed) if isinstance(packed, str) else [*others[: packed[0]], *packed[1:]]
