"""Which conversations do conventions refuse that let roles take turns, or a call be all there is of an answer?"""

from collections.abc import Iterator, Sequence

from crucible.errors import Problem
from crucible.train.messages import Message, calls_of, shown, text_of


def turns_from(messages: Sequence[Message]) -> int:
    """Where the conversation goes on after a first message by the system, or begins."""
    return 1 if messages[0]["role"] == "system" else 0


def last_user(messages: Sequence[Message]) -> int:
    """The user's last message; -1 where there is none."""
    return max((index for index, message in enumerate(messages) if message["role"] == "user"), default=-1)


def out_of_turn(messages: Sequence[Message], *, family: str) -> Iterator[Problem]:
    """The first message that is not by the user where the user is due, or is where another is: the user begins, and
    messages with calls or results are not counted."""
    asks = True
    for index in range(turns_from(messages), len(messages)):
        message = messages[index]
        if message["role"] == "tool" or calls_of(message):
            continue
        if (message["role"] == "user") != asks:
            yield Problem(
                what=f"user and assistant take turns in {family}, and it is the {'user' if asks else 'assistant'}'s",
                where=f"messages[{index}]",
                given=message["role"],
                fix="Join neighbouring messages of one role; put what the system says into the first message",
            )
            return
        asks = not asks


def misplaced_system(messages: Sequence[Message], *, family: str, place: str) -> Iterator[Problem]:
    """Messages by the system that have no place: one in a conversation without a question, and any but the first.

    place: where the convention writes the first one.
    """
    if messages[0]["role"] == "system" and last_user(messages) < 0:
        yield Problem(
            what=f"{family} writes the system message into {place}, and there is none",
            where="messages[0]",
            fix="Add the user's message",
        )
    for index in range(1, len(messages)):
        if messages[index]["role"] == "system":
            yield Problem(
                what=f"{family} has one place for a system message, in {place}",
                where=f"messages[{index}]",
                fix="Put it into the first message",
            )


def text_beside_calls(messages: Sequence[Message]) -> Iterator[Problem]:
    """Answers that both call tools and say something."""
    for index, message in enumerate(messages):
        if calls_of(message) and text_of(message).strip():
            yield Problem(
                what="an answer that calls a tool has no place for text beside the call",
                where=f"messages[{index}]",
                given=shown(text_of(message)),
                fix="Leave the text out, or the call",
            )


def unreadable_arguments(messages: Sequence[Message]) -> Iterator[Problem]:
    """Calls whose arguments are text that is not JSON of an object."""
    for index, message in enumerate(messages):
        for number, call in enumerate(calls_of(message)):
            if call.object is None:
                yield Problem(
                    what="a tool call's arguments are not an object",
                    where=f"messages[{index}].tool_calls[{number}]",
                    given=shown(call.arguments),
                    fix='Write {"argument": value, ...}, or the JSON text of that',
                )
