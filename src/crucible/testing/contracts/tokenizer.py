"""Do a tokenizer, and the store that finds it, keep the whole contract of their port?"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crucible.errors import ModelError, RendererError
from crucible.ports.tokenizer import Tokenizer, TokenizerStore
from crucible.testing.contracts.suite import NotExercised, Suite, needed

TEXTS = (
    "",
    "Hello, world.",
    "  two leading spaces, a tab\tand\n\nnewlines \n",
    "naïve façade, Ωmega, Привет, 你好, مرحبا",
    "🙂👩‍👩‍👧‍👦 e\u0301",
    "def f(x: int) -> int:\n    return x ** 2  # code\n",
    "0123456789" * 5,
    "a" * 200,
)
MESSAGES = (
    {"role": "user", "content": "What is two and three?"},
    {"role": "assistant", "content": "Five."},
    {"role": "user", "content": "And one more?"},
)


class TokenizerContract(Suite):
    """The contract of `crucible.ports.Tokenizer`.

    Fixtures that the subclass gives:
        tokenizer: the tokenizer.
    and may give, to exercise more:
        refused_messages: a conversation that the chat template refuses.
    `lossless` is True for tokenizers whose normaliser changes no text: encoding then loses nothing.
    """

    lossless: bool = True

    @pytest.fixture
    def tokenizer(self) -> Tokenizer:
        raise needed("tokenizer")

    @pytest.fixture
    def refused_messages(self) -> Sequence[Mapping[str, object]] | None:
        """A conversation that the template refuses; without one, that is not exercised."""
        return None

    @pytest.mark.parametrize("text", TEXTS)
    def test_decoding_gives_the_text_back(self, tokenizer: Tokenizer, text: str, not_exercised: NotExercised) -> None:
        if not self.lossless:
            not_exercised("decode(encode(text)) == text: this tokenizer normalises")
            return
        assert tokenizer.decode(tokenizer.encode(text).ids) == text

    @pytest.mark.parametrize("text", TEXTS)
    def test_offsets_cover_the_text_in_order(self, tokenizer: Tokenizer, text: str) -> None:
        encoding = tokenizer.encode(text)
        assert len(encoding.ids) == len(encoding.offsets)
        assert all(0 <= start <= end <= len(text) for start, end in encoding.offsets)
        assert list(encoding.offsets) == sorted(encoding.offsets)
        covered = {place for start, end in encoding.offsets for place in range(start, end)}
        assert "".join(character for place, character in enumerate(text) if place not in covered).strip() == ""

    @pytest.mark.parametrize("text", TEXTS)
    def test_ids_are_below_the_vocabulary_size(self, tokenizer: Tokenizer, text: str) -> None:
        assert all(0 <= token < tokenizer.vocab_size for token in tokenizer.encode(text).ids)

    def test_encoding_adds_no_token_of_its_own(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.encode("").ids == ()
        specials = set(tokenizer.special_tokens.values())
        assert specials.isdisjoint(tokenizer.encode("Hello, world.").ids)

    def test_the_same_text_gives_the_same_ids_in_every_thread(self, tokenizer: Tokenizer) -> None:
        text = " ".join(TEXTS)
        expected = tokenizer.encode(text)
        with ThreadPoolExecutor(max_workers=4) as threads:
            assert list(threads.map(tokenizer.encode, [text] * 16)) == [expected] * 16

    def test_a_special_tokens_text_is_that_one_token(self, tokenizer: Tokenizer) -> None:
        for text, token in tokenizer.special_tokens.items():
            assert token in tokenizer.encode(f"a{text}b").ids
            assert tokenizer.encode(text).ids == (token,)
            assert tokenizer.decode([token]) == text
            assert tokenizer.decode([token], skip_special=True) == ""
            assert tokenizer.token_text(token) == text

    @pytest.mark.parametrize("text", TEXTS)
    def test_ordinary_text_has_the_ids_that_it_has_alone(self, tokenizer: Tokenizer, text: str) -> None:
        assert tokenizer.encode_ordinary([text, "x", text]) == [
            list(tokenizer.encode(part).ids) for part in (text, "x", text)
        ]

    def test_a_special_tokens_text_can_be_written_as_ordinary_text(self, tokenizer: Tokenizer) -> None:
        for text in tokenizer.special_tokens:
            (ids,) = tokenizer.encode_ordinary([f"a{text}b"])
            assert set(tokenizer.special_tokens.values()).isdisjoint(ids)
            assert not self.lossless or tokenizer.decode(ids) == f"a{text}b"

    def test_special_end_and_start_ids_are_in_the_vocabulary(self, tokenizer: Tokenizer) -> None:
        ids = {*tokenizer.special_tokens.values(), *tokenizer.eos_ids}
        ids |= set() if tokenizer.bos_id is None else {tokenizer.bos_id}
        assert all(0 <= token < tokenizer.vocab_size for token in ids)

    def test_every_token_can_be_shown(self, tokenizer: Tokenizer) -> None:
        step = max(1, tokenizer.vocab_size // 500)
        assert all(isinstance(tokenizer.token_text(token), str) for token in range(0, tokenizer.vocab_size, step))

    def test_incomplete_utf8_shows_as_the_replacement_character(
        self, tokenizer: Tokenizer, not_exercised: NotExercised
    ) -> None:
        for character in "🙂𓀀𝛀":
            ids = tokenizer.encode(character).ids
            if len(ids) > 1 and tokenizer.decode(ids) == character:
                assert "\ufffd" in tokenizer.decode(ids[:-1])
                return
        not_exercised("incomplete UTF-8: no character tried takes several tokens")

    def test_an_id_outside_the_vocabulary_is_refused(self, tokenizer: Tokenizer) -> None:
        for token in (-1, tokenizer.vocab_size, 10**9):
            with pytest.raises(ValueError):
                tokenizer.decode([token])

    def test_the_template_writes_every_message_or_says_that_there_is_none(
        self, tokenizer: Tokenizer, not_exercised: NotExercised
    ) -> None:
        if tokenizer.chat_template is None:
            with pytest.raises(RendererError):
                tokenizer.apply_chat_template(MESSAGES)
            not_exercised("the chat template: this model has none")
            return
        text = tokenizer.apply_chat_template(MESSAGES)
        places = [text.find(message["content"]) for message in MESSAGES]
        assert -1 not in places and places == sorted(places)
        assert tokenizer.apply_chat_template(MESSAGES) == text
        assert len(tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True)) >= len(text)

    def test_a_template_that_refuses_raises_a_renderer_error(
        self,
        tokenizer: Tokenizer,
        refused_messages: Sequence[Mapping[str, object]] | None,
        not_exercised: NotExercised,
    ) -> None:
        if refused_messages is None:
            not_exercised("a conversation that the template refuses: the suite has none")
            return
        with pytest.raises(RendererError):
            tokenizer.apply_chat_template(refused_messages)


class TokenizerStoreContract(Suite):
    """The contract of `crucible.ports.TokenizerStore`.

    Fixtures that the subclass gives:
        store: the adapter.
        model: a model reference that it can load.
    and may give:
        missing_model: a reference to no model (default: a folder that does not exist).
    """

    @pytest.fixture
    def store(self) -> TokenizerStore:
        raise needed("store")

    @pytest.fixture
    def model(self) -> str:
        raise needed("model")

    @pytest.fixture
    def missing_model(self, tmp_path: Path) -> str:
        """A reference to no model."""
        return str(tmp_path / "no-such-model")

    def test_the_same_model_gives_the_same_tokenizer(self, store: TokenizerStore, model: str) -> None:
        first, second = store.load(model), store.load(model)
        assert isinstance(first, Tokenizer)
        assert [first.encode(text) for text in TEXTS] == [second.encode(text) for text in TEXTS]

    def test_a_missing_model_is_refused(self, store: TokenizerStore, missing_model: str) -> None:
        with pytest.raises(ModelError):
            store.load(missing_model)

    def test_it_may_be_closed_twice(self, store: TokenizerStore) -> None:
        store.close()
        store.close()
