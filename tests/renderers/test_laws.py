"""What every written-out family keeps, whatever is said: laws over made conversations on a made tokenizer."""

from itertools import pairwise

import numpy as np
import pytest
from corpus import Conversation
from hypothesis import HealthCheck, find, given, reject, settings
from hypothesis import strategies as st
from made_renderers import KINDS, conversations, made_renderer

from crucible.errors import RendererError
from crucible.train.messages import Message, calls_of, check_messages, text_of, thinking_of
from crucible.train.renderers import RenderedExample, Renderer, TrainOn
from crucible.train.renderers.train_on import trained_messages

laws = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
ANSWERS = (TrainOn.LAST_ASSISTANT_MESSAGE, TrainOn.LAST_ASSISTANT_TURN, TrainOn.ALL_ASSISTANT_MESSAGES)
every_family = pytest.mark.parametrize("name", KINDS)


def prompt(renderer: Renderer, talk: Conversation, index: int) -> list[int]:
    """The prompt for answer `index`."""
    return renderer.build_generation_prompt(talk.messages[:index], tools=talk.tools).to_ints()


def generated(renderer: Renderer, talk: Conversation, index: int) -> list[int]:
    """What the model must generate for answer `index`: what follows its prompt, until sampling stops."""
    messages, before = talk.messages[: index + 1], prompt(renderer, talk, index)
    whole = renderer.build_supervised_example(messages, train_on=TrainOn.LAST_ASSISTANT_MESSAGE, tools=talk.tools)
    rest = whole.tokens.tolist()[len(before) :]
    stops = [place for place, token in enumerate(rest) if token in renderer.stop_sequences]
    return rest[: stops[0] + 1]


def examples(renderer: Renderer, talk: Conversation, train_on: TrainOn) -> list[RenderedExample]:
    """A conversation's examples; one that the family refuses is no case."""
    try:
        return renderer.build_supervised_examples(talk.messages, train_on=train_on, tools=talk.tools)
    except RendererError:
        reject()


def answers(talk: Conversation) -> list[int]:
    return [index for index, message in enumerate(talk.messages) if message["role"] == "assistant"]


def meaning(message: Message) -> tuple[str, str, list[tuple[str, object]]]:
    """What a message says, in whichever form."""
    return text_of(message), thinking_of(message), [(call.name, call.object) for call in calls_of(message)]


@every_family
@laws
@given(data=st.data())
def test_each_chosen_answer_is_trained_once_after_its_prompt_and_as_it_must_be_generated(name, data) -> None:
    renderer, talk = made_renderer(name), data.draw(conversations(name))
    train_on = data.draw(st.sampled_from(ANSWERS))
    made = examples(renderer, talk, train_on)
    trained = [(span.message, example.tokens.tolist(), span) for example in made for span in example.spans]
    assert sorted(index for index, _, _ in trained) == trained_messages(talk.messages, train_on)
    for index, tokens, span in trained:
        assert tokens[: span.start] == prompt(renderer, talk, index)
        assert tokens[span.start : span.end] == generated(renderer, talk, index)


@every_family
@laws
@given(data=st.data(), train_on=st.sampled_from(TrainOn))
def test_weights_are_one_on_what_was_chosen_and_zero_elsewhere(name, data, train_on) -> None:
    renderer, talk = made_renderer(name), data.draw(conversations(name))
    if train_on is TrainOn.CUSTOMIZED:
        flags = data.draw(st.lists(st.booleans(), min_size=len(talk.messages), max_size=len(talk.messages)))
        flagged = [{**message, "trainable": flag} for message, flag in zip(talk.messages, flags, strict=True)]
        talk = Conversation(messages=tuple(flagged), tools=talk.tools)
    made = examples(renderer, talk, train_on)
    for example in made:
        inside = np.zeros(len(example.tokens), dtype=np.float32)
        for span in example.spans:
            inside[span.start : span.end] = 1
        inside[0] = 0
        np.testing.assert_array_equal(example.weights, inside)
    if train_on is TrainOn.ALL_TOKENS:
        assert [example.weights.sum() for example in made] == [len(made[0].tokens) - 1]
    else:
        chosen = [span.message for example in made for span in example.spans]
        assert len(chosen) == len(set(chosen))
        left_out = set(trained_messages(talk.messages, train_on)) - set(chosen)
        assert all(talk.messages[index]["role"] == "system" and not text_of(talk.messages[index]) for index in left_out)


@every_family
@laws
@given(data=st.data())
def test_another_roles_span_is_its_content_and_what_closes_it(name, data) -> None:
    renderer, talk = made_renderer(name), data.draw(conversations(name))
    (example,) = examples(renderer, talk, TrainOn.ALL_USER_AND_SYSTEM_MESSAGES)
    for span in example.spans:
        ids = example.tokens[span.start : span.end].tolist()
        closed = bool(ids) and ids[-1] in renderer.special_ids
        assert renderer.tokenizer.decode(ids[: len(ids) - closed]) == text_of(talk.messages[span.message])


@every_family
@laws
@given(data=st.data())
def test_parsing_what_was_rendered_gives_the_message_back(name, data) -> None:
    renderer, talk = made_renderer(name), data.draw(conversations(name))
    examples(renderer, talk, TrainOn.ALL_ASSISTANT_MESSAGES)
    for index in answers(talk):
        parsed = renderer.parse_response(generated(renderer, talk, index))
        assert meaning(parsed.message) == meaning(talk.messages[index])
        assert parsed.ended == "stop"


@every_family
@laws
@given(data=st.data())
def test_a_response_that_is_cut_off_is_never_taken_for_a_whole_one(name, data) -> None:
    renderer, talk = made_renderer(name), data.draw(conversations(name))
    examples(renderer, talk, TrainOn.LAST_ASSISTANT_MESSAGE)
    response = generated(renderer, talk, data.draw(st.sampled_from(answers(talk))))
    for end in range(len(response)):
        assert renderer.parse_response(response[:end]).ended == "length"


def extends(renderer: Renderer, talk: Conversation) -> bool:
    """Whether each prompt begins with the prompt before it and what was generated there."""
    places = answers(talk)
    return all(
        prompt(renderer, talk, later)[: len(before)] == before
        for earlier, later in pairwise(places)
        for before in [prompt(renderer, talk, earlier) + generated(renderer, talk, earlier)]
    )


def breaks_off(name: str, talk: Conversation) -> bool:
    """Whether the conversation refutes the extension property."""
    try:
        return not extends(made_renderer(name), talk)
    except RendererError:
        return False


@pytest.mark.parametrize("name", [name for name in KINDS if made_renderer(name).has_extension_property])
@laws
@given(data=st.data())
def test_prompts_extend_what_was_sampled_where_the_family_claims_it(name, data) -> None:
    assert not breaks_off(name, data.draw(conversations(name)))


@pytest.mark.parametrize("name", [name for name in KINDS if not made_renderer(name).has_extension_property])
def test_where_the_family_does_not_claim_it_some_prompt_does_not(name) -> None:
    rarely = settings(max_examples=500, database=None, suppress_health_check=list(HealthCheck))
    assert find(conversations(name), lambda talk: breaks_off(name, talk), settings=rarely)


@every_family
@laws
@given(data=st.data())
def test_nothing_that_is_said_makes_a_control_token(name, data) -> None:
    renderer, talk = made_renderer(name), data.draw(conversations(name))
    (example,) = examples(renderer, talk, TrainOn.ALL_TOKENS)
    tame = [_without(message, renderer) for message in talk.messages]
    (other,) = examples(renderer, Conversation(messages=tuple(tame), tools=talk.tools), TrainOn.ALL_TOKENS)
    controls = [[t for t in made.tokens.tolist() if t in renderer.special_ids] for made in (example, other)]
    assert controls[0] == controls[1]


def _without(message: Message, renderer: Renderer) -> Message:
    """The message without special tokens' text."""
    text = text_of(message)
    for special in renderer.tokenizer.special_tokens:
        text = text.replace(special, "x")
    return Message(**{**message, "content": text})


@every_family
@laws
@given(data=st.data())
def test_no_tokens_make_parsing_raise_or_give_a_malformed_message(name, data) -> None:
    renderer = made_renderer(name)
    known = st.sampled_from(sorted({*renderer.ids.values(), *renderer.special_ids})).map(lambda token: [token])
    pieces = ["<function=", "f>", "<parameter=", '{"name": "f",', '"arguments": {', '"a": NaN}}', "[" * 99, "\n", "to="]
    written = st.sampled_from(pieces).map(renderer.tokenizer.encode).map(lambda encoding: list(encoding.ids))
    anything = st.integers(-3, renderer.tokenizer.vocab_size + 3).map(lambda token: [token])
    ids = [token for piece in data.draw(st.lists(known | written | anything, max_size=14)) for token in piece]
    parsed = renderer.parse_response(ids)
    assert check_messages([parsed.message]) == []
    assert parsed.ended in ("stop", "eos", "length", "malformed")
