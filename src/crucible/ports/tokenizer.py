"""What does training need of a tokenizer? Ids, offsets, special tokens and the model's chat template."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from crucible.ports.port import Port

TODAY = datetime(2024, 7, 26)
"""The day that a model is told, whatever the day: the one that Llama 3's own template falls back to where it has no
clock. So the same rows give the same tokens every day."""


@dataclass(frozen=True)
class Encoding:
    """A text as tokens: `ids[i]` covers characters `offsets[i][0]` to `offsets[i][1]` of the text."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class Tokenizer(ABC):
    """One model's tokenizer. Thread-safe; pure: the same text gives the same ids.

    Encoding adds no BOS or EOS of its own: what a template wants, the template writes.
    """

    @abstractmethod
    def encode(self, text: str) -> Encoding:
        """Tokenise; the text of a special token becomes that token."""

    @abstractmethod
    def encode_ordinary(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, tokenised apart; the text of a special token is text like any other.

        What a person wrote is encoded so: it cannot end a turn or forge one. Added tokens that are not special
        (such as `<think>` in some vocabularies) are still tokens of their own.
        """

    @abstractmethod
    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of the ids; incomplete UTF-8 shows as U+FFFD.

        Raises:
            ValueError: if an id is outside the vocabulary.
        """

    @abstractmethod
    def token_text(self, token: int) -> str:
        """One token as a person would read it (special tokens by name)."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids, added tokens included: every id is below it."""

    @property
    @abstractmethod
    def special_tokens(self) -> Mapping[str, int]:
        """Text to id of every special (control) token."""

    @property
    @abstractmethod
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a generation (the tokenizer's EOS and those of the model's generation config)."""

    @property
    @abstractmethod
    def bos_id(self) -> int | None:
        """The BOS id, where the model has one."""

    @property
    @abstractmethod
    def chat_template(self) -> str | None:
        """The Jinja source of the model's chat template, where it has one."""

    @abstractmethod
    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: object,
    ) -> str:
        """The conversation as text, as the model's own template writes it.

        Raises:
            RendererError: if the model has no template, or the template refuses the conversation.
        """


class TokenizerStore(Port):
    """Finds tokenizers by model reference, without loading a model."""

    port_name: ClassVar[str] = "tokenizer_store"

    @abstractmethod
    def load(self, model: str) -> Tokenizer:
        """The tokenizer of a base model (packaged name, hub id, local folder or GGUF file).

        Raises:
            ModelError: if there is no such model, or it has no tokenizer that can be read.
        """
