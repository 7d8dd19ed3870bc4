"""Are a model's tool calls run, answered, and refused with a reason; and is its last answer judged?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from playing import Recorded, Scripted, action, rolled, seat

from crucible.errors import ConfigError
from crucible.testing.fakes import FakeTokenizer
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message
from crucible.train.renderers import get_renderer
from crucible.train.rl.problem_env import ProblemGroupBuilder
from crucible.train.rl.strategy import MinimumGroup
from crucible.train.rl.tool_env import ToolEnv, ToolError, ToolFunction


class Untemplated(FakeTokenizer):
    """A renderer that is not the template's own fits it too."""

    chat_template = None


QWEN = get_renderer("qwen3_instruct", Untemplated())
PARAMETERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
ADD = {"type": "function", "function": {"name": "add", "description": "a + b", "parameters": PARAMETERS}}


async def add(arguments: Mapping[str, Any]) -> str:
    if arguments["a"] < 0:
        raise ToolError("a is negative")
    if arguments["a"] > 99:
        raise ConnectionError("the adder is gone")
    return str(arguments["a"] + arguments["b"])


@dataclass(kw_only=True, eq=False)
class Adding(ToolEnv):
    renderer: Any = QWEN
    task: Sequence[Message] = (Message(role="user", content="What is 2 + 3?"),)
    functions: Sequence[ToolFunction] = (ToolFunction(declaration=ADD, call=add),)

    async def check_answer(self, answer: str) -> float:
        return float(answer == "5")


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def adding() -> ProblemGroupBuilder:
    return ProblemGroupBuilder(make_env=lambda seat: Adding(seat=seat), group_size=1)


async def test_a_call_is_answered_and_the_answer_that_follows_is_judged() -> None:
    lines = iter([call("add", a=2, b=3), "5"])
    completer = Scripted(says=lambda *_: f"{next(lines)}<|im_end|>")
    group = await rolled(adding(), completer)
    assert group.rewards == [1.0]
    assert '"name": "add"' in completer.asked[0].prompt
    assert "<tool_response>\n5\n</tool_response>" in completer.asked[1].prompt


async def said_to(message: str) -> tuple[str, Mapping[str, float]]:
    env = Adding(seat=seat())
    await env.initial_observation()
    result = await env.step(action(f"{message}<|im_end|>"))
    return str(result.said[-1]["content"]), result.metrics


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (call("ad", a=1, b=2), "there is no tool named 'ad'; did you mean add?"),
        (call("add", a="1", b=2), "$.a is no integer"),
        (call("add", a=1), "b"),
        (call("add", a=-1, b=2), "a is negative"),
    ],
)
async def test_a_call_that_cannot_be_run_is_answered_with_the_reason_and_counted(message: str, reason: str) -> None:
    content, metrics = await said_to(message)
    assert content.startswith("error: ")
    assert reason in content
    assert metrics == {"tool_calls": 1, "tool_errors": 1}


async def test_calls_of_one_message_are_answered_in_their_order() -> None:
    env = Adding(seat=seat())
    calls = [{"function": {"name": "add", "arguments": {"a": a, "b": 1}}} for a in (1, 2, 3)]
    reply = await env.reply(Message(role="assistant", content=None, tool_calls=calls))
    assert [message["content"] for message in reply.messages] == ["2", "3", "4"]


async def test_a_tool_that_breaks_is_a_failure_of_the_environment() -> None:
    completer = Scripted(says=lambda *_: f"{call('add', a=100, b=1)}<|im_end|>")
    group = await rolled(adding(), completer, strategy=MinimumGroup())
    assert (group.trajectories[0].failure.kind, group.rewards) == ("ConnectionError", [None])


async def test_a_graders_verdict_on_the_answer_is_kept() -> None:
    class Graded(Adding):
        async def check_answer(self, answer: str) -> Verdict:
            return await self.grade("exact", {"prediction": answer})

    graders = Recorded(verdicts={"exact": Verdict.invalid("it died")})
    builder = ProblemGroupBuilder(make_env=lambda seat: Graded(seat=seat), group_size=1)
    group = await rolled(builder, Scripted(says=lambda *_: "5<|im_end|>"), graders=graders)
    assert (group.rewards, group.trajectories[0].verdicts) == ([None], [Verdict.invalid("it died")])


@pytest.mark.parametrize("declaration", [{"function": {}}, {"function": {"name": "f", "parameters": {"type": "int"}}}])
def test_a_tool_that_is_declared_wrongly_is_refused_when_it_is_made(declaration: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigError, match="tool"):
        ToolFunction(declaration=declaration, call=add)
