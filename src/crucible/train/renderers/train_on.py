"""Which messages of a conversation does a choice of `train_on` train?"""

from collections.abc import Sequence
from enum import StrEnum

from crucible.errors import ConfigError, Problem, RendererError, did_you_mean
from crucible.train.messages import Message


class TrainOn(StrEnum):
    """Which part of a conversation carries loss (tinker-cookbook's names).

    An assistant's message is trained as what the model must generate for it: from the end of the
    generation prompt through the end-of-turn token. Another role's is trained as its content and the
    special token that directly follows it. Headers are trained by ALL_TOKENS alone.

    LAST_ASSISTANT_MESSAGE: the last message by the assistant.
    LAST_ASSISTANT_TURN: the assistant's messages from the last user message before that one on (with
        tool calls there are several).
    ALL_ASSISTANT_MESSAGES: every message by the assistant.
    ALL_MESSAGES: every message.
    ALL_TOKENS: every token but the first, which nothing predicts.
    ALL_USER_AND_SYSTEM_MESSAGES: every message by the user or the system.
    CUSTOMIZED: the messages whose `trainable` is true; each message must say.

    An unknown name raises ConfigError.
    """

    LAST_ASSISTANT_MESSAGE = "last_assistant_message"
    LAST_ASSISTANT_TURN = "last_assistant_turn"
    ALL_ASSISTANT_MESSAGES = "all_assistant_messages"
    ALL_MESSAGES = "all_messages"
    ALL_TOKENS = "all_tokens"
    ALL_USER_AND_SYSTEM_MESSAGES = "all_user_and_system_messages"
    CUSTOMIZED = "customized"

    @classmethod
    def _missing_(cls, value: object) -> None:
        hint = did_you_mean(str(value), [member.value for member in cls])
        raise ConfigError.of("train_on has no such choice", where="train_on", given=value, fix=hint)


def trained_messages(messages: Sequence[Message], train_on: TrainOn) -> list[int]:
    """The indices of the messages that are trained, ascending; for ALL_TOKENS, all of them.

    Raises:
        RendererError: if there are none, or a `trainable` flag is missing (CUSTOMIZED) or would be ignored
            (any other choice).
    """
    _check_flags(messages, train_on)
    chosen = [index for index, _ in enumerate(messages) if _is_trained(messages, index, train_on)]
    if not chosen:
        raise RendererError.of(
            "the conversation has no message that train_on trains",
            given=train_on.value,
            fix="Choose another train_on, or leave the row out",
        )
    return chosen


def _is_trained(messages: Sequence[Message], index: int, train_on: TrainOn) -> bool:
    role = messages[index]["role"]
    match train_on:
        case TrainOn.ALL_MESSAGES | TrainOn.ALL_TOKENS:
            return True
        case TrainOn.ALL_ASSISTANT_MESSAGES:
            return role == "assistant"
        case TrainOn.ALL_USER_AND_SYSTEM_MESSAGES:
            return role in ("user", "system", "developer")
        case TrainOn.CUSTOMIZED:
            return messages[index].get("trainable", False)
        case TrainOn.LAST_ASSISTANT_MESSAGE:
            return index == _last(messages, "assistant", before=len(messages))
        case TrainOn.LAST_ASSISTANT_TURN:
            last = _last(messages, "assistant", before=len(messages))
            return role == "assistant" and index > _last(messages, "user", before=last)


def _last(messages: Sequence[Message], role: str, *, before: int) -> int:
    return max(
        (index for index, message in enumerate(messages[: max(before, 0)]) if message["role"] == role), default=-1
    )


def _check_flags(messages: Sequence[Message], train_on: TrainOn) -> None:
    customized = train_on is TrainOn.CUSTOMIZED
    wrong = [index for index, message in enumerate(messages) if ("trainable" in message) != customized]
    if not wrong:
        return
    if customized:
        what, fix = (
            "a message does not say whether it is trainable",
            "train_on=customized needs the flag on each message",
        )
    else:
        what, fix = "a message's trainable flag would be ignored", "Set train_on=customized, or drop the flags"
    raise RendererError([Problem(what=what, where=f"messages[{index}]", fix=fix) for index in wrong])
