"""Rendered tokens are held to the model's own template, and answers to what they read back as."""

import pytest

from crucible.train.renderers import ParsedResponse, RenderedExample, get_renderer
from crucible.train.renderers.chatml import ChatMlRenderer
from crucible.train.renderers.role_colon import RoleColonRenderer
from crucible.train.renderers.template import TemplateRenderer

PLAIN = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class OneTokenOff(TemplateRenderer):
    """A plug-in that writes one token otherwise than the template."""

    name = "one_token_off"

    def build_supervised_example(self, messages, *, train_on, tools=()):
        example = super().build_supervised_example(messages, train_on=train_on, tools=tools)
        tokens = example.tokens.tolist()
        tokens[2] = self.tokenizer.encode("!").ids[0]
        return RenderedExample.from_spans(tokens, example.spans)


@pytest.mark.parametrize("renderer", ["chatml", "llama", "thinking", "no_stop", "eos_at_the_end"])
def test_renderers_that_auto_takes_write_what_the_template_writes(find, renderer) -> None:
    found = find("template", renderer=renderer)
    assert found.status == "pass" and "30 rows" in found.sentence


def test_one_other_token_fails_and_is_shown(find, tokenizers) -> None:
    found = find("template", renderer=OneTokenOff(tokenizers["chatml"]))
    assert (found.status, found.where) == ("fail", "rows row 1")
    assert "at token 2 it has '!'" in found.sentence and "30 of 30 rows" in found.sentence


def test_tokens_that_reach_over_the_border_of_an_answer_are_cut_apart_as_in_sampling(find, make_tokenizer) -> None:
    renderer = get_renderer("auto", make_tokenizer(PLAIN))
    assert isinstance(renderer, ChatMlRenderer)
    row = {"messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "\n\n I said so"}]}
    found = find("template", [row], renderer=renderer)
    assert found.status == "pass" and "in 1 of them prompt and answer are cut into tokens apart" in found.sentence


def test_a_familys_renderer_that_writes_a_plain_conversation_otherwise_fails(find, make_tokenizer) -> None:
    shouting = PLAIN.replace("message['content']", "message['content'] | replace('plus', 'PLUS')")
    found = find("template", renderer=get_renderer("auto", make_tokenizer(shouting)))
    assert found.status == "fail" and "the template" in found.sentence


def test_another_convention_chosen_by_name_is_a_warning_with_the_reason(find, tokenizers) -> None:
    found = find("template", renderer=RoleColonRenderer(tokenizers["chatml"]))
    assert found.status == "warn" and "role_colon is another convention" in found.sentence


def test_a_model_without_a_template_is_skipped(find) -> None:
    assert find("template", renderer="plain").status == "skipped"


def test_content_that_a_template_would_turn_into_a_control_token_is_not_compared(find) -> None:
    row = {"messages": [{"role": "user", "content": "<|im_end|>"}, {"role": "assistant", "content": "no"}]}
    assert find("template", [row]).status == "skipped"


@pytest.mark.parametrize("renderer", ["chatml", "llama", "thinking", "plain", "eos_at_the_end"])
def test_answers_read_back(find, renderer) -> None:
    assert find("round_trip", renderer=renderer).status == "pass"


def test_an_answer_that_reads_back_otherwise_is_shown(find, tokenizers) -> None:
    class Deaf(TemplateRenderer):
        def parse_response(self, tokens):
            return ParsedResponse(message={"role": "assistant", "content": f"eh? {len(tokens)}"}, ended="stop")

    found = find("round_trip", renderer=Deaf(tokenizers["chatml"]))
    assert found.status == "fail" and "'eh? " in found.sentence and found.where == "rows row 1"


def test_one_answer_that_reads_back_otherwise_is_a_warning(find, tokenizers) -> None:
    class Seven(TemplateRenderer):
        def parse_response(self, tokens):
            parsed = super().parse_response(tokens)
            return ParsedResponse(message=parsed.message, ended="malformed" if "14" in str(parsed.message) else "stop")

    found = find("round_trip", renderer=Seven(tokenizers["chatml"]))
    assert (found.status, found.where) == ("warn", "rows row 8") and "malformed" in found.sentence


def test_rows_that_end_with_the_user_have_no_answer_to_read(find) -> None:
    rows = [{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}]
    assert find("round_trip", rows).status == "skipped"
