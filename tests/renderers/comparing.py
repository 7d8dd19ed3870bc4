"""Where does a renderer write other tokens than the model's own template?"""

from collections.abc import Mapping
from dataclasses import dataclass

from cases import Case
from corpus import CORPUS, Conversation
from references import Reference, Refusal, before_the_answer

from crucible.errors import RendererError
from crucible.train.renderers import Renderer, TrainOn


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One conversation, whole or as a prompt, that the two write differently."""

    conversation: str
    part: str
    ours: list[int] | Refusal
    theirs: list[int] | Refusal

    @property
    def first(self) -> int:
        """The place of the first differing token; 0 where either refuses."""
        if isinstance(self.ours, Refusal) or isinstance(self.theirs, Refusal):
            return 0
        pairs = enumerate(zip(self.ours, self.theirs, strict=False))
        return next((at for at, (one, other) in pairs if one != other), min(len(self.ours), len(self.theirs)))


def differences(renderer: Renderer, case: Case, references: Mapping[str, Reference]) -> list[Difference]:
    """All of a case's, each conversation compared as a whole and as the prompt of its last answer.

    Two refusals are no difference.
    """
    found: list[Difference] = []
    for name in case.conversations:
        theirs = references[name]
        whole, prompt = tokens_of(renderer, CORPUS[name])
        for part, one, other in (("whole", whole, theirs.whole), ("prompt", prompt, theirs.prompt)):
            both_refuse = isinstance(one, Refusal) and isinstance(other, Refusal)
            if one != other and not both_refuse:
                found.append(Difference(conversation=name, part=part, ours=one, theirs=other))
    return found


def tokens_of(renderer: Renderer, conversation: Conversation) -> tuple[list[int] | Refusal, list[int] | Refusal]:
    """Our tokens of the whole conversation, and of the prompt for its last answer (or for the next one)."""
    return _whole(renderer, conversation), _prompt(renderer, conversation)


def _whole(renderer: Renderer, conversation: Conversation) -> list[int] | Refusal:
    try:
        example = renderer.build_supervised_example(
            conversation.messages, train_on=TrainOn.ALL_TOKENS, tools=conversation.tools
        )
    except RendererError as error:
        return Refusal(reason=str(error))
    return example.tokens.tolist()


def _prompt(renderer: Renderer, conversation: Conversation) -> list[int] | Refusal:
    messages = before_the_answer(conversation.messages)
    try:
        return renderer.build_generation_prompt(messages, tools=conversation.tools).to_ints()
    except RendererError as error:
        return Refusal(reason=str(error))
