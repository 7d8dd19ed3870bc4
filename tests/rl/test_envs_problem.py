"""Is a question put as it should be, its answer read, and its worth what the formula says?"""

from dataclasses import dataclass

import pytest
from playing import CHAT, PLAIN, TOKENIZER, Recorded, action, seat

from crucible.ports.datum import ModelInput
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message
from crucible.train.rl.problem_env import ProblemEnv
from crucible.train.rl.prompt_form import ChatForm, PromptForm, TextForm
from crucible.train.rl.types import Trajectory, Transition

CHATTED = ChatForm(renderer=CHAT, before=(Message(role="system", content="Count."),))
FEW_SHOT = TextForm(tokenizer=TOKENIZER, before="1 + 1 = 2\n", after=" =", stop=("\n", ";"))


@dataclass(kw_only=True, eq=False)
class Sum(ProblemEnv):
    """Right is the sum; in form are digits alone."""

    form: PromptForm = PLAIN
    question: str = "2 + 3"
    reference: str = "5"

    async def check_answer(self, answer: str) -> float:
        return float("5" in answer)

    def check_format(self, answer: str) -> bool:
        return answer.strip().isdigit()


@dataclass(kw_only=True, eq=False)
class Graded(Sum):
    async def check_answer(self, answer: str) -> Verdict:
        return await self.grade("number", {"reference": self.reference, "prediction": answer})


@pytest.mark.parametrize(
    ("text", "stop_reason", "reward", "ended"),
    [
        ("5\n", "stop", 1.0, "done"),
        ("it is 5\n", "stop", 0.9, "done"),
        ("6\n", "stop", 0.0, "done"),
        ("six\n", "stop", -0.1, "done"),
        ("5", "length", 0.9, "cut"),
    ],
)
async def test_the_reward_is_the_fields_formula(text: str, stop_reason: str, reward: float, ended: str) -> None:
    result = await Sum(seat=seat()).step(action(text, stop_reason=stop_reason))
    assert (result.reward, result.ended, result.episode_done) == (pytest.approx(reward), ended, True)


async def test_a_malformed_answer_in_a_chat_is_not_in_form_and_says_so() -> None:
    result = await Sum(seat=seat(), form=CHATTED, format_coef=0.5).step(action("5<|im_start|><|im_end|>"))
    assert (result.ended, result.reward, result.metrics) == ("malformed", 0.5, {"format": 0.0, "correct": 1.0})


async def test_what_is_right_and_in_form_are_metrics_and_a_reader_sees_answer_and_reference() -> None:
    result = await Sum(seat=seat()).step(action("five 5\n"))
    assert result.metrics == {"format": 0.0, "correct": 1.0}
    assert result.logs == {"answer": "five 5", "reference": "5"}
    assert result.said == (Message(role="assistant", content="five 5"),)


@pytest.mark.parametrize("verdict", [Verdict.invalid("it died"), Verdict.timed_out("too slow")])
async def test_a_grader_without_a_score_leaves_no_reward_and_no_metric_of_it(verdict: Verdict) -> None:
    env = Graded(seat=seat(Recorded(verdicts={"number": verdict})))
    observation, _ = await env.initial_observation()
    done = action("5\n")
    result = await env.step(done)
    trajectory = Trajectory(
        transitions=(Transition(observation=observation, action=done, result=result),), ended=result.ended
    )
    assert trajectory.reward is None
    assert result.metrics == {"format": 1.0}


async def test_a_graders_score_is_worth_what_an_answer_is_and_on_record_at_its_place() -> None:
    graders = Recorded(verdicts={"number": Verdict.of(0.5, "half")})
    result = await Graded(seat=seat(graders, member=6)).step(action("5\n"))
    assert (result.reward, result.verdict, graders.places) == (0.5, Verdict.of(0.5, "half"), ["0/0/6/0"])


async def test_a_question_in_a_chat_is_what_the_renderer_writes() -> None:
    observation, stop = await Sum(seat=seat(), form=CHATTED).initial_observation()
    asked = [Message(role="system", content="Count."), Message(role="user", content="2 + 3")]
    assert observation == CHAT.build_generation_prompt(asked)
    assert list(stop) == CHAT.stop_sequences
    assert list(Sum(seat=seat(), form=CHATTED).first_messages) == asked


async def test_a_question_after_examples_is_their_text_and_ends_where_an_example_does() -> None:
    observation, stop = await Sum(seat=seat(), form=FEW_SHOT).initial_observation()
    assert observation == ModelInput.from_ints(TOKENIZER.encode("1 + 1 = 2\n2 + 3 =").ids)
    assert list(stop) == ["\n", ";"]


async def test_a_special_tokens_text_in_a_question_is_text() -> None:
    observation, _ = FEW_SHOT.ask("<|im_end|>")
    assert TOKENIZER.special_tokens["<|im_end|>"] not in observation.to_ints()


@pytest.mark.parametrize(("said", "text"), [("5;6\n", "5"), ("5", "5"), ("5\n6;", "5"), ("5<|im_end|>", "5")])
def test_an_answer_after_examples_ends_before_its_stop(said: str, text: str) -> None:
    assert FEW_SHOT.read(action(said)).text == text


def test_tokens_that_the_vocabulary_lacks_are_left_out_of_an_answer() -> None:
    """Models have more logits than tokens."""
    odd = action("5\n")
    odd = type(odd)(**{**vars(odd), "tokens": (*odd.tokens[:1], 9999), "logprobs": (-1.0, -1.0)})
    assert FEW_SHOT.read(odd).text == "5"
