"""What tokenizes without a vocabulary file? `FakeTokenizer`: one token per byte, and ChatML's three markers."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from crucible.errors import ModelError, RendererError
from crucible.ports.tokenizer import Encoding, Tokenizer, TokenizerStore

SPECIAL: Mapping[str, int] = MappingProxyType({"<|im_start|>": 256, "<|im_end|>": 257, "<|endoftext|>": 258})

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""What `apply_chat_template` writes, as Jinja, for readers of a tokenizer's template."""

_SPECIAL_TEXT = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")
_NAMES = {token: text for text, token in SPECIAL.items()}


class FakeTokenizer(Tokenizer):
    """UTF-8 bytes as ids 0 to 255, then the special tokens. `decode(encode(text).ids) == text`, always."""

    def fingerprint(self) -> str:
        """What it is known by when a run is continued: there is only this one."""
        return hashlib.sha256(f"{CHAT_TEMPLATE}{sorted(SPECIAL.items())}".encode()).hexdigest()

    def encode(self, text: str) -> Encoding:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        start = 0
        for part in _SPECIAL_TEXT.split(text):
            if part in SPECIAL:
                ids.append(SPECIAL[part])
                offsets.append((start, start + len(part)))
            else:
                for place, character in enumerate(part, start):
                    encoded = character.encode()
                    ids.extend(encoded)
                    offsets.extend([(place, place + 1)] * len(encoded))
            start += len(part)
        return Encoding(ids=tuple(ids), offsets=tuple(offsets))

    def encode_ordinary(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        pieces: list[str] = []
        pending = bytearray()
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise ValueError(f"{token} is no token id: the vocabulary has {self.vocab_size}")
            if token < 256:
                pending.append(token)
                continue
            pieces.append(pending.decode(errors="replace"))
            pending.clear()
            if not skip_special:
                pieces.append(_NAMES[token])
        return "".join(pieces) + pending.decode(errors="replace")

    def token_text(self, token: int) -> str:
        return self.decode([token]) if token >= 128 or chr(token).isprintable() else repr(chr(token))[1:-1]

    @property
    def vocab_size(self) -> int:
        return 256 + len(SPECIAL)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return SPECIAL

    @property
    def eos_ids(self) -> frozenset[int]:
        return frozenset({SPECIAL["<|im_end|>"], SPECIAL["<|endoftext|>"]})

    @property
    def bos_id(self) -> int | None:
        return None

    @property
    def chat_template(self) -> str | None:
        return CHAT_TEMPLATE

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: object,  # noqa: ARG002  (this template has none)
    ) -> str:
        if tools:
            raise RendererError.of("the noop tokenizer's template has no place for tools")
        text = ""
        for place, message in enumerate(messages):
            role, content = message.get("role"), message.get("content")
            if not isinstance(role, str) or not isinstance(content, str):
                raise RendererError.of("a message has a role and a content, both text", where=f"message {place + 1}")
            text += f"<|im_start|>{role}\n{content}<|im_end|>\n"
        return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")


class FakeTokenizerStore(TokenizerStore):
    """Gives the one fake tokenizer for every model reference but a blank one."""

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def load(self, model: str) -> Tokenizer:
        if not model.strip():
            raise ModelError.of("there is no model without a name", given=repr(model))
        return FakeTokenizer()
