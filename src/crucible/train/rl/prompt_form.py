"""How is a question put to the model, and its answer read? As a conversation, or as plain text after examples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from crucible.ports.datum import ModelInput
from crucible.ports.tokenizer import Tokenizer
from crucible.train.messages import Message, text_of
from crucible.train.renderers.renderer import Renderer
from crucible.train.rl.types import Action, StopCondition

Whole: TypeAlias = Literal["done", "cut", "malformed"]
"""Whether an answer came to its end; was cut at `max_tokens`; or has special tokens where none may be."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An action as it reads. text: without what ended it; message: for the tree of rollouts."""

    text: str
    ended: Whole
    message: Message


class PromptForm(ABC):
    """One way of asking. Pure."""

    @abstractmethod
    def ask(self, question: str) -> tuple[ModelInput, StopCondition]:
        """The prompt, and what ends the answer.

        Raises:
            RendererError: if the question cannot be written.
        """

    @abstractmethod
    def messages(self, question: str) -> Sequence[Message]:
        """What is asked, for the tree of rollouts."""

    @abstractmethod
    def read(self, action: Action) -> Answer:
        """The answer. Never raises."""


@dataclass(frozen=True, kw_only=True)
class ChatForm(PromptForm):
    """The question as the user's message, after the messages `before`."""

    renderer: Renderer
    before: Sequence[Message] = ()

    def ask(self, question: str) -> tuple[ModelInput, StopCondition]:
        return self.renderer.build_generation_prompt(self.messages(question)), self.renderer.stop_sequences

    def messages(self, question: str) -> Sequence[Message]:
        return (*self.before, Message(role="user", content=question))

    def read(self, action: Action) -> Answer:
        response = self.renderer.parse_response(action.tokens)
        return Answer(
            text=text_of(response.message),
            ended=how_it_ended(response.ended, action),
            message=response.message,
        )


@dataclass(frozen=True, kw_only=True)
class TextForm(PromptForm):
    """Plain text for a model that only continues: `before`, the question, `after`; the answer ends at a text of `stop`.

    before: usually a few solved examples, each with its line break. bos: begin with the model's BOS token, where it
    has one (Llama and Gemma expect it; SmolLM2 does not).
    """

    tokenizer: Tokenizer
    before: str = ""
    after: str = ""
    stop: Sequence[str] = ("\n",)
    bos: bool = False

    def ask(self, question: str) -> tuple[ModelInput, StopCondition]:
        [ids] = self.tokenizer.encode_ordinary([f"{self.before}{question}{self.after}"])
        begin = [self.tokenizer.bos_id] if self.bos and self.tokenizer.bos_id is not None else []
        return ModelInput.from_ints([*begin, *ids]), tuple(self.stop)

    def messages(self, question: str) -> Sequence[Message]:
        return (Message(role="user", content=f"{self.before}{question}{self.after}"),)

    def read(self, action: Action) -> Answer:
        known = [token for token in action.tokens if 0 <= token < self.tokenizer.vocab_size]
        text = self.tokenizer.decode(known, skip_special=True)
        places = [text.index(stop) for stop in self.stop if stop in text]
        text = text[: min(places, default=len(text))]
        ended: Whole = "done" if action.stop_reason == "stop" else "cut"
        return Answer(text=text, ended=ended, message=Message(role="assistant", content=text))


def how_it_ended(ending: str, action: Action) -> Whole:
    """From what the renderer read and the sampler reported: an answer that ended at an environment's own stop reads
    as one that ran out of tokens, but was not cut."""
    if ending == "malformed":
        return "malformed"
    return "cut" if ending == "length" and action.stop_reason == "length" else "done"
