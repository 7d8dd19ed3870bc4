"""What is an environment with tools? A conversation in which the model's calls are run and answered, until it answers
without a call."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crucible.errors import ConfigError, did_you_mean
from crucible.ports.json_schema import JsonSchema, misfits, require_schema
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message, Tool, ToolCall, calls_of, check_tools, function_of, text_of
from crucible.train.rl.message_env import MessageEnv, Reply


class ToolError(Exception):
    """A tool could not do what the model asked of it: the model is told. Anything else that a tool raises is a failure
    of the environment, which is no fault of the model's."""


@dataclass(frozen=True, kw_only=True)
class ToolFunction:
    """A tool and what it does.

    declaration: as the model is told of it; its `parameters` are a JSON schema, which the arguments are checked by.
    call: from the arguments to the text that the model is answered. Raises ToolError for what it cannot do.

    Raises:
        ConfigError: if the declaration has no name, or its parameters are no schema.
    """

    declaration: Tool
    call: Callable[[Mapping[str, Any]], Awaitable[str]]

    def __post_init__(self) -> None:
        problems = check_tools([self.declaration])
        if problems:
            raise ConfigError(problems)
        try:
            require_schema(self._parameters)
        except ValueError as error:
            raise ConfigError.of(f"a tool's parameters are no JSON schema: {error}", where=self.name) from error

    @property
    def name(self) -> str:
        """What the model calls it by."""
        return str(function_of(self.declaration)["name"])

    def misfits(self, arguments: Mapping[str, Any]) -> list[str]:
        """What is wrong with the arguments."""
        return list(misfits(dict(arguments), self._parameters))

    @property
    def _parameters(self) -> JsonSchema:
        return function_of(self.declaration).get("parameters", {})


@dataclass(kw_only=True, eq=False)
class ToolEnv(MessageEnv):
    """A task that the model may use tools for. Subclass it and write `check_answer`.

    Calls of one message are run one after another, in their order. A call that cannot be run (no such tool, arguments
    that are no JSON object or do not fit, a `ToolError`) is answered with the reason, and counted as `tool_errors`.

    task: the conversation up to the model's first turn. functions: the tools.
    """

    task: Sequence[Message]
    functions: Sequence[ToolFunction]

    def __post_init__(self) -> None:
        self.tools = tuple(function.declaration for function in self.functions)

    @abstractmethod
    async def check_answer(self, answer: str) -> float | Verdict:
        """What the answer that calls no tool is worth; or a grader's verdict on it (`self.grade`)."""

    async def opening(self) -> Sequence[Message]:
        return self.task

    async def reply(self, message: Message) -> Reply:
        calls = calls_of(message)
        if not calls:
            return await self._judged(text_of(message))
        messages: list[Message] = []
        errors = 0
        for call in calls:
            try:
                content = await self._run(call)
            except ToolError as error:
                content, errors = f"error: {error}", errors + 1
            messages.append(_tool_message(call, content))
        return Reply(messages=messages, metrics={"tool_calls": len(calls), "tool_errors": errors})

    async def _judged(self, answer: str) -> Reply:
        outcome = await self.check_answer(answer)
        if isinstance(outcome, Verdict):
            return Reply(reward=outcome.score or 0.0, verdict=outcome)  # of no account where the verdict has no score
        return Reply(reward=float(outcome))

    async def _run(self, call: ToolCall) -> str:
        known = {function.name: function for function in self.functions}
        if call.name not in known:
            raise ToolError(f"there is no tool named {call.name!r}; {did_you_mean(call.name, known)}")
        arguments = call.object
        if arguments is None:
            raise ToolError("the arguments are no JSON object")
        wrong = known[call.name].misfits(arguments)
        if wrong:
            raise ToolError(f"the arguments do not fit: {'; '.join(wrong)}")
        return await known[call.name].call(arguments)


def _tool_message(call: ToolCall, content: str) -> Message:
    message = Message(role="tool", content=content, name=call.name)
    return {**message, "tool_call_id": call.id} if call.id else message
