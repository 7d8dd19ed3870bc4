"""How is plain text tokenised faster than by the library? Word by word, and each word only once.

A byte-level BPE tokenizer cuts a text into words by a regular expression and tokenises each word apart. Nearly all
words of a text were met before, so that cutting is what is left to do, and for ASCII Python's `re` does it several
times faster than the library with its offsets, normalisation and byte mapping. What is not ASCII goes the long way.
"""

import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgspec
import tokenizers

_REMEMBERED, _LONGEST = 1 << 16, 64
"""How many words are remembered, and the most characters of one: some 20 MB at worst."""

_ASCII: Mapping[str, str] = {"L": "A-Za-z", "Lu": "A-Z", "Ll": "a-z", "Lt": "", "Lm": "", "Lo": "", "M": "", "N": "0-9"}
"""What Unicode's classes of characters come to in ASCII."""

_BYTES: Mapping[int, str] = {byte: chr(256 + place) for place, byte in enumerate((*range(33), 127))}
"""How a byte-level tokenizer spells ASCII's bytes that cannot be seen, in GPT-2's order."""

_SAMPLE = "".join(f"{a}{b}{a}x{b}7{a}" for a in map(chr, range(128)) for b in " \n'aZ0.-\t")
_SAMPLES = (_SAMPLE, "It's 2024,  we'LL\r\n\r\n see...\n\n  x = f(a_b, 10**3)\t# don't  \n", " ", "\n", "a", "")
"""Texts on which both ways must agree before this one is taken."""


class _Words(dict[str, tuple[int, ...]]):
    """Ids by word."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        super().__init__()
        self._model: Any = backend.model

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = tuple([token.id for token in self._model.tokenize(word.translate(_BYTES))])
        if len(word) <= _LONGEST and len(self) < _REMEMBERED:
            self[word] = ids
        return ids


class WordEncoder:
    """ASCII text to ids, by remembered words. Thread-safe."""

    def __init__(self, backend: tokenizers.Tokenizer, cut: "re.Pattern[str]") -> None:
        added = {token.content: number for number, token in backend.get_added_tokens_decoder().items()}
        longest_first = sorted(added, key=len, reverse=True)
        self._added = added
        self._split = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if added else None
        self._cut = cut.findall
        self._ids = _Words(backend).__getitem__

    @classmethod
    def of(cls, tokenizer_json: str, backend: tokenizers.Tokenizer) -> "WordEncoder | None":
        """For a tokenizer that works so, made from this tokenizer.json; None for any other."""
        cut = _cut(tokenizer_json, backend)
        if cut is None:
            return None
        encoder = cls(backend, cut)
        same = all(encoder.encode(text) == backend.encode(text, add_special_tokens=False).ids for text in _SAMPLES)
        return encoder if same else None

    def encode(self, text: str) -> list[int] | None:
        """The ids, as the tokenizer gives them; None for a text that it must be asked about."""
        if not text.isascii():
            return None
        if self._split is None:
            return self._plain(text)
        ids: list[int] = []
        for place, part in enumerate(self._split.split(text)):
            if place % 2:
                ids.append(self._added[part])
            elif (plain := self._plain(part)) is None:
                return None
            else:
                ids += plain
        return ids

    def _plain(self, text: str) -> list[int] | None:
        words = self._cut(text)
        if sum(map(len, words)) != len(text):
            return None  # the expression leaves gaps
        return list(chain.from_iterable(map(self._ids, words)))


class _Model(msgspec.Struct):
    type: str = ""
    dropout: float | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None


class _File(msgspec.Struct):
    """What of tokenizer.json says how a text is cut; the vocabulary, nearly all of it, is passed over."""

    model: _Model
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None


def _cut(tokenizer_json: str, backend: tokenizers.Tokenizer) -> "re.Pattern[str] | None":
    """The expression that cuts ASCII text as this tokenizer does; None if it does anything else besides."""
    file = msgspec.json.decode(tokenizer_json, type=_File)
    pieces = (file.pre_tokenizer or {}).get("pretokenizers", [])
    usual = (
        file.normalizer in (None, {"type": "NFC"})  # which leaves ASCII as it is
        and [piece["type"] for piece in pieces] == ["Split", "ByteLevel"]
        and (pieces[0]["behavior"], pieces[0]["invert"]) == ("Isolated", False)
        and not (pieces[1]["add_prefix_space"] or pieces[1]["use_regex"])
        and file.model.type == "BPE"
        and not (file.model.dropout or file.model.continuing_subword_prefix or file.model.end_of_word_suffix)
        and not any(map(_is_loose, backend.get_added_tokens_decoder().values()))
    )
    pattern = pieces[0]["pattern"].get("Regex") if usual else None
    if pattern is None:
        return None
    try:
        cut = re.compile(_in_ascii(pattern), re.ASCII)
    except (re.error, KeyError):
        return None  # not written as others are
    return None if cut.groups else cut  # `findall` gives groups in place of words


def _is_loose(token: tokenizers.AddedToken) -> bool:
    """Whether an added token is found otherwise than by its text alone."""
    return bool(token.single_word or token.lstrip or token.rstrip or token.normalized)


def _in_ascii(pattern: str) -> str:
    """The expression with Unicode's classes written out. Raises KeyError for one that is not known here."""
    inside, parts = False, list[str]()
    for part in re.findall(r"\\p\{\w+\}|\\.|.", pattern, re.DOTALL):
        if part.startswith("\\p"):
            letters = _ASCII[part[3:-1]]
            parts.append(letters if inside else f"[{letters}]")
        else:
            inside = (inside or part == "[") and part != "]"
            parts.append(part)
    return "".join(parts)
