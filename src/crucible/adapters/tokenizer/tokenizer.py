"""How does a tokenizer.json become the `Tokenizer` that training needs?"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.adapters.tokenizer.files import TokenizerFiles, read_tokenizer_files
from crucible.errors import MissingExtraError, ModelError, RendererError
from crucible.ports.tokenizer import Encoding, Tokenizer

if TYPE_CHECKING:
    import tokenizers

    from crucible.adapters.tokenizer.template import ChatTemplate
    from crucible.adapters.tokenizer.words import WordEncoder


class HfTokenizer(Tokenizer):
    """A tokenizer of Hugging Face's `tokenizers` library, with its model's chat template.

    Text decodes as it was encoded: unlike transformers, nothing is tidied up in between.
    """

    def __init__(self, files: TokenizerFiles, *, name: str) -> None:
        self._files = files
        self._name = name
        self._backend = _backend(files, name=name)
        self._special = _special_tokens(self._backend, files)
        self._vocab_size = max(self._backend.get_vocab(with_added_tokens=True).values()) + 1
        eos = self._special.get(files.named_tokens.get("eos_token", ""))
        self._eos_ids = files.eos_ids if eos is None else files.eos_ids | {eos}
        self._special_text = re.compile("|".join(map(re.escape, self._special))) if self._special else None

    @classmethod
    def from_folder(cls, folder: Path) -> "HfTokenizer":
        """The tokenizer of a model's folder.

        Raises:
            ModelError: if the folder has none, or it cannot be read.
            MissingExtraError: if the `tokenizers` package is not installed.
        """
        return cls(read_tokenizer_files(folder), name=str(folder))

    def fingerprint(self) -> str:
        """A hash of all that its files say, by which a continued run knows it again."""
        return hashlib.sha256(msgspec.json.encode(self._files, order="deterministic")).hexdigest()

    def encode(self, text: str) -> Encoding:
        """See the port."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        return Encoding(tuple(encoding.ids), tuple(encoding.offsets))

    def encode_ordinary(self, texts: Sequence[str]) -> list[list[int]]:
        """See the port."""
        return [self._ordinary(text) for text in texts]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """See the port."""
        outside = [token for token in ids if not 0 <= token < self.vocab_size]
        if outside:
            raise ValueError(f"token id {outside[0]} is outside the vocabulary of {self.vocab_size}")
        return self._backend.decode(ids, skip_special_tokens=skip_special)

    def token_text(self, token: int) -> str:
        """See the port."""
        # Decoders strip the space before the first word: the second of two shows the token as it stands in a text.
        once = self.decode([token])
        return self.decode([token, token])[len(once) :]

    @property
    def vocab_size(self) -> int:
        """See the port."""
        return self._vocab_size

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """See the port."""
        return self._special

    @property
    def eos_ids(self) -> frozenset[int]:
        """See the port."""
        return self._eos_ids

    @property
    def bos_id(self) -> int | None:
        """See the port."""
        return self._special.get(self._files.named_tokens.get("bos_token", ""))

    @property
    def chat_template(self) -> str | None:
        """See the port."""
        return self._files.templates.get("default")

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: object,
    ) -> str:
        """See the port. A template named `tool_use` serves the conversations with tools."""
        named = "tool_use" if tools is not None and "tool_use" in self._templates else "default"
        if named not in self._templates:
            raise RendererError.of(
                "the model has no chat template", where=self._name, fix="Choose another renderer, such as role_colon"
            )
        given: dict[str, object] = {**self._files.named_tokens, "documents": None, **variables}
        return self._templates[named].render(
            messages, add_generation_prompt=add_generation_prompt, tools=tools, **given
        )

    def _ordinary(self, text: str) -> list[int]:
        special = self._special_text is not None and self._special_text.search(text) is not None
        if not special and self._words is not None and (ids := self._words.encode(text)) is not None:
            return ids
        backend = self._literal if special else self._backend
        # A batch of one: the library's only way to encode without working out offsets, which costs a third.
        return backend.encode_batch_fast([text], add_special_tokens=False)[0].ids

    @cached_property
    def _words(self) -> "WordEncoder | None":
        from crucible.adapters.tokenizer.words import WordEncoder

        return WordEncoder.of(self._files.tokenizer_json, self._backend)

    @cached_property
    def _literal(self) -> "tokenizers.Tokenizer":
        """A second tokenizer that takes special tokens' text literally; made when such a text is first met. (To switch
        one tokenizer to and fro would race between threads.)"""
        backend = _backend(self._files, name=self._name)
        backend.encode_special_tokens = True
        return backend

    @cached_property
    def _templates(self) -> dict[str, "ChatTemplate"]:
        try:
            from crucible.adapters.tokenizer.template import ChatTemplate
        except ModuleNotFoundError as error:
            raise MissingExtraError.for_extra("tokenizer", needed_by="a chat template", module="jinja2") from error
        return {name: ChatTemplate(source) for name, source in self._files.templates.items()}


def _backend(files: TokenizerFiles, *, name: str) -> "tokenizers.Tokenizer":
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("tokenizer", needed_by="reading a tokenizer", module="tokenizers") from error
    try:
        backend = tokenizers.Tokenizer.from_str(files.tokenizer_json)
        if any(not token.special and _is_control(token.content) for token in _added(backend)):
            backend = tokenizers.Tokenizer.from_str(_with_controls_marked(files.tokenizer_json))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError.of(f"tokenizer.json cannot be read: {error}", where=name) from error
    backend.no_truncation()
    backend.no_padding()
    # The post-processor would add BOS and EOS, which is the template's business, and trim spaces off the offsets.
    backend.post_processor = tokenizers.processors.Sequence([])
    _add_tokens(backend, files)
    return backend


_CONTROL = re.compile("<[|｜].*[|｜]>")


def _is_control(text: str) -> bool:
    """Whether a token's text has the form of a control token. Some vocabularies do not call theirs special (DeepSeek's
    `<｜User｜>`), and a message that holds one would forge a turn."""
    return _CONTROL.fullmatch(text) is not None


def _with_controls_marked(tokenizer_json: str) -> str:
    document: dict[str, Any] = json.loads(tokenizer_json)
    for token in document["added_tokens"]:
        token["special"] = token["special"] or _is_control(token["content"])
    return json.dumps(document, ensure_ascii=False)


def _added(backend: "tokenizers.Tokenizer") -> "list[tokenizers.AddedToken]":
    return list(backend.get_added_tokens_decoder().values())


def _add_tokens(backend: "tokenizers.Tokenizer", files: TokenizerFiles) -> None:
    """Add what tokenizer_config.json lists and tokenizer.json lacks, as transformers does."""
    import tokenizers

    present = {token.content for token in _added(backend)}
    keys = ("single_word", "lstrip", "rstrip", "normalized", "special")
    for token in files.added_tokens:
        if token["content"] not in present:
            flags = {key: bool(token[key]) for key in keys if key in token}
            flags["special"] = flags.get("special", False) or _is_control(token["content"])
            added: list[Any] = [tokenizers.AddedToken(token["content"], **flags)]
            backend.add_tokens(added)  # pyright: ignore[reportUnknownMemberType]  (its stub is incomplete)


def _special_tokens(backend: "tokenizers.Tokenizer", files: TokenizerFiles) -> dict[str, int]:
    special = {token.content: i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    for text in files.named_tokens.values():
        token = backend.token_to_id(text)
        if token is not None:
            special.setdefault(text, token)
    return dict(sorted(special.items(), key=lambda pair: pair[1]))
