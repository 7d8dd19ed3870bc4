"""A transcript keeps what was sampled."""

import numpy as np
import pytest

from crucible.errors import RendererError
from crucible.train.messages import Message
from crucible.train.renderers.transcript import Transcript

ASK = [Message(role="user", content="What is the capital of France?")]
MORE = [Message(role="user", content="Are you sure?")]


def ids(renderer, text):
    return list(renderer.tokenizer.encode(text).ids)


def oddly(renderer, text):
    """The text one byte at a time: tokens that no tokenizer would give, as a sampler may."""
    return [token for letter in text for token in ids(renderer, letter)]


@pytest.mark.parametrize("name", ["chatml", "llama", "plain"])
def test_sampled_tokens_are_kept_although_the_text_would_tokenise_otherwise(renderers, name) -> None:
    renderer = renderers[name]
    stop = ids(renderer, "<|im_end|>") if name == "chatml" else ids(renderer, "<|eot|>") if name == "llama" else []
    spoken = [*oddly(renderer, "Paris is"), *stop]
    transcript = Transcript.begin(renderer, ASK)
    transcript = transcript.sampled(spoken, [-0.5] * len(spoken)).answered(MORE)
    (sequence,) = transcript.sequences()
    assert sequence.tokens[sequence.sampled].tolist() == spoken
    assert transcript.messages[1]["content"] == "Paris is"
    assert transcript.prompt.to_ints()[: len(sequence.tokens)] == sequence.tokens.tolist()


def test_logprobs_stand_where_tokens_were_sampled_and_nowhere_else(renderers) -> None:
    renderer = renderers["chatml"]
    spoken = ids(renderer, "Paris<|im_end|>")
    (sequence,) = Transcript.begin(renderer, ASK).sampled(spoken, [-1.0] * len(spoken)).sequences()
    assert np.isfinite(sequence.logprobs).tolist() == sequence.sampled.tolist()


def test_what_follows_is_the_prompt_that_the_renderer_builds(renderers) -> None:
    renderer = renderers["chatml"]
    spoken = ids(renderer, "Paris<|im_end|>")
    transcript = Transcript.begin(renderer, ASK).sampled(spoken).answered(MORE)
    whole = [*ASK, Message(role="assistant", content="Paris"), *MORE]
    assert transcript.prompt.to_ints() == renderer.build_generation_prompt(whole).to_ints()


@pytest.mark.parametrize(
    ("name", "closed"), [("chatml", "Par<|im_end|>\n<|im_start|>user"), ("plain", "Par\n\nUser: Are")]
)
def test_a_turn_that_was_cut_off_is_closed_before_somebody_else_speaks(renderers, name, closed) -> None:
    renderer = renderers[name]
    transcript = Transcript.begin(renderer, ASK).sampled(ids(renderer, "Par")).answered(MORE)
    (sequence,) = transcript.sequences()
    assert closed in renderer.tokenizer.decode(transcript.prompt.to_ints())
    assert sequence.sampled.sum() == len(ids(renderer, "Par"))


def test_rewritten_history_begins_a_new_sequence_and_loses_no_turn(renderers) -> None:
    renderer = renderers["thinking"]
    first = ids(renderer, "<think>\nhm\n</think>\n\nParis<|im_end|>")
    second = ids(renderer, "<think>\n\n</think>\n\nYes<|im_end|>")
    transcript = Transcript.begin(renderer, ASK).sampled(first).answered(MORE).sampled(second)
    sequences = transcript.sequences()
    assert [sequence.tokens[sequence.sampled].tolist() for sequence in sequences] == [first, second]


def test_a_turn_that_cannot_be_written_again_ends_the_conversation_with_a_reason(renderers) -> None:
    renderer = renderers["chatml"]
    transcript = Transcript.begin(renderer, ASK).sampled(ids(renderer, "a<|im_start|>b<|im_end|>"))
    assert transcript.responses[-1].ended == "malformed"
    with pytest.raises(RendererError, match="special token"):
        transcript.answered(MORE)
