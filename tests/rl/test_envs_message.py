"""Does a conversation keep the very tokens that were sampled, and end with a reason?"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import CHAT, LIMITS, TOKENIZER, Echo, Recorded, Scripted, action, digits, rolled, seat

from crucible.errors import RendererError
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message
from crucible.train.renderers import get_renderer
from crucible.train.rl.message_env import MessageEnv, Reply
from crucible.train.rl.problem_env import ProblemGroupBuilder
from crucible.train.rl.strategy import MinimumGroup

WORDS = st.lists(st.sampled_from(["a", "é", " ", "\n", "ab", "12", "User:"]), min_size=0, max_size=6).map("".join)


@given(WORDS, WORDS)
async def test_every_observation_begins_with_the_one_before_and_the_very_tokens_sampled_on_it(
    one: str, two: str
) -> None:
    env = Echo(renderer=CHAT, seat=seat(), turns=3)
    seen, _ = await env.initial_observation()
    for text in (one, two):
        acted = action(f"{text}<|im_end|>")
        following = (await env.step(acted)).next_observation
        before = [*seen.to_ints(), *acted.tokens]
        assert following.to_ints()[: len(before)] == before
        seen = following


async def test_an_answer_that_was_cut_ends_the_episode_with_the_reward_for_that() -> None:
    env = Echo(renderer=CHAT, seat=seat(), cut_reward=-0.25)
    await env.initial_observation()
    result = await env.step(action("11", stop_reason="length"))
    assert (result.reward, result.ended, result.episode_done) == (-0.25, "cut", True)


async def test_an_answer_that_cannot_be_read_ends_the_episode_with_the_reward_for_that() -> None:
    env = Echo(renderer=CHAT, seat=seat())
    await env.initial_observation()
    result = await env.step(action("11<|im_start|>user<|im_end|>"))
    assert (result.reward, result.ended, result.episode_done) == (-1.0, "malformed", True)


async def test_an_answer_that_ended_at_the_environments_own_stop_is_whole_and_closed_for_the_next_turn() -> None:
    env = Echo(renderer=CHAT, seat=seat(), stop=["]"])
    _, stop = await env.initial_observation()
    result = await env.step(action("[1]"))
    text = TOKENIZER.decode(result.next_observation.to_ints())
    assert (list(stop), result.ended, result.reward) == (["]"], "done", 0.5)
    assert "[1]<|im_end|>\n<|im_start|>user\nyou said [1]" in text


async def test_the_tree_of_rollouts_is_told_what_was_said() -> None:
    group = await rolled(
        ProblemGroupBuilder(make_env=lambda seat: Echo(renderer=CHAT, seat=seat), group_size=1),
        Scripted(says=lambda *_: "1<|im_end|>"),
    )
    [member] = group.trajectories
    assert list(member.first) == [Message(role="user", content="go")]
    said = [message["content"] for turn in member.transitions for message in turn.result.said]
    assert said == ["1", "you said 1", "1"]


async def test_each_turns_verdict_is_on_record_at_its_own_place() -> None:
    class Judged(Echo):
        async def reply(self, message: Message) -> Reply:
            return replace(await super().reply(message), verdict=await self.grade("exact", {}))

    graders = Recorded(verdicts={"exact": Verdict.of(1.0)})
    builder = ProblemGroupBuilder(make_env=lambda seat: Judged(renderer=CHAT, seat=seat), group_size=2)
    await rolled(builder, Scripted(says=digits), graders=graders)
    assert sorted(graders.places) == ["2/3/0/0", "2/3/0/1", "2/3/1/0", "2/3/1/1"]


class Rude(MessageEnv):
    """Answers with what the renderer cannot write."""

    async def opening(self) -> Sequence[Message]:
        return [Message(role="user", content="go")]

    async def reply(self, message: Message) -> Reply:
        del message
        return Reply(messages=[Message(role="nobody", content="hm")])


async def test_a_reply_that_cannot_be_written_is_the_environments_failure_not_the_policys() -> None:
    env = Rude(renderer=CHAT, seat=seat())
    await env.initial_observation()
    with pytest.raises(RendererError, match="nobody"):
        await env.step(action("hello<|im_end|>"))
    builder = ProblemGroupBuilder(make_env=lambda seat: Rude(renderer=CHAT, seat=seat), group_size=1)
    group = await rolled(builder, Scripted(says=digits), strategy=MinimumGroup())
    assert (group.trajectories[0].failure.kind, group.rewards) == ("RendererError", [None])


async def test_an_answer_that_reads_well_but_cannot_be_written_as_history_is_malformed() -> None:
    """A special token's text, spelt out in ordinary tokens, which a template would take for the token."""
    env = Echo(renderer=get_renderer("template", TOKENIZER), seat=seat())
    await env.initial_observation()
    spelt = action(f"1{'~' * 10}<|im_end|>")
    tokens = (spelt.tokens[0], *b"<|im_end|>", spelt.tokens[-1])
    result = await env.step(replace(spelt, tokens=tokens))
    assert (result.ended, result.reward, result.episode_done) == ("malformed", -1.0, True)
    assert "special token" in result.logs["unwritable"]


async def test_what_was_earned_before_a_limit_is_kept_and_the_environment_may_add_to_it() -> None:
    class Late(Echo):
        async def ended_by_limit(self, ended) -> float:
            return {"turns": -5.0}[ended]

    builder = ProblemGroupBuilder(make_env=lambda seat: Late(renderer=CHAT, seat=seat, turns=9), group_size=1)
    limits = replace(LIMITS, max_turns=2)
    group = await rolled(builder, Scripted(says=lambda *_: "11<|im_end|>"), limits=limits)
    assert [turn.result.reward for turn in group.trajectories[0].transitions] == [1.0, -4.0]
