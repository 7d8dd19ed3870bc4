"""Does the suite see a server that is wrong? Each fault must fail the check that is named for it."""

from pathlib import Path
from typing import Any

import faults
import pytest
import wrong_applications
from wrong_servers import wrong_server

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.server.conformance import examine

pytestmark = pytest.mark.slow  # some forty servers, a second each

TRAINING = {
    "normalises weights": (faults.NormalisesWeights, "weights_scale_gradients"),
    "clamps negative weights": (faults.ClampsWeights, "negative_weights"),
    "averages the loss": (faults.AveragesTheLoss, "loss_is_a_sum"),
    "drops split gradients": (faults.DropsSplitGradients, "split_requests_accumulate"),
    "keeps gradients": (faults.KeepsGradients, "step_uses_and_clears_gradients"),
    "trains on forward": (faults.TrainsOnForward, "forward_trains_nothing"),
    "ignores grad_clip_norm": (faults.without(grad_clip_norm=0.0), "grad_clip_norm"),
    "ignores weight_decay": (faults.without(weight_decay=0.0), "weight_decay"),
    "has no momentum": (faults.without(beta1=0.0), "adam_remembers"),
    "ignores the LoRA seed": (faults.starting_with(seed=0), "lora_seed"),
    "trains every layer": (faults.starting_with(train_mlp=True, train_attn=True), "lora_layers"),
    "computes no ratio clipping": (faults.losing("ppo", "importance_sampling"), "loss_ppo"),
    "computes gspo as ppo": (faults.losing("gspo", "ppo"), "loss_gspo"),
    "ignores the loss's config": (faults.IgnoresLossConfig, "loss_cispo"),
    "shares one adapter": (faults.SharesOneAdapter, "runs_do_not_move_each_other"),
    "never restores the optimizer": (faults.loading_with(optimizer=False), "optimizer_comes_back"),
    "never resets the optimizer": (faults.loading_with(optimizer=True), "optimizer_comes_back"),
    "takes a user's mistake for its own": (faults.AnswersWith500, "errors_of_the_user"),
    "reports no elementwise_loss": (faults.reporting(faults.without_elementwise_loss), "elementwise_loss"),
    "reports a bare metric": (faults.reporting(faults.with_a_bare_metric), "metric_keys"),
}
SAMPLING = {
    "tempers logprobs": (faults.TempersLogprobs, "sampled_logprobs_are_untempered"),
    "leaks training into samplers": (faults.LeaksTraining, "snapshots_do_not_move"),
    "samples the base model": (faults.IgnoresTheAdapter, "sampler_is_the_trainer"),
    "ignores the seed": (faults.sampling_with(seed=None), "seed_reproduces"),
    "has one seed": (faults.sampling_with(seed=1), "without_a_seed_completions_differ"),
    "ignores the temperature": (faults.sampling_with(temperature=1.0), "greedy"),
    "ignores top_p": (faults.sampling_with(top_p=1.0), "top_p_and_top_k_restrict"),
    "ignores stop": (faults.sampling_with(stop=[]), "stop_ids"),
    "ignores stop strings": (faults.sampling_with(stop=[]), "stop_strings"),
    "stops at the end of sequence in spite of []": (faults.TakesEmptyStopForNone, "stop_default"),
    "draws one completion for all": (faults.DrawsOneForAll, "seed_reproduces"),
    "scores the first token": (faults.ScoresTheFirstToken, "prompt_logprobs"),
}
APPLICATION = {
    "takes requests as they arrive": (wrong_applications.Renumbers, "seq_ids_decide_the_order"),
    "does replays again": (wrong_applications.Renumbers, "replays_are_done_once"),
    "forgets results": (wrong_applications.ForgetsResults, "results_can_be_read_again"),
    "draws replays again": (wrong_applications.DrawsAgain, "sampling_replays_are_drawn_once"),
}
CASES = [
    pytest.param(place, fault, check, id=name)
    for place, table in (("training", TRAINING), ("sampling", SAMPLING), ("app", APPLICATION))
    for name, (fault, check) in table.items()
]


def outcome(url: str, check: str) -> str:
    """How one check ends."""
    tokenizers = HfTokenizerStore(resolve_model=Path)
    card = examine(url, key="tml-test", only=[check], patience=60, tokenizers=tokenizers.load)
    return card.findings[0].status


@pytest.mark.parametrize(("place", "fault", "check"), CASES)
def test_a_fault_fails_the_check_that_is_named_for_it(
    tiny_model: Path, tmp_path: Path, place: str, fault: Any, check: str
) -> None:
    with wrong_server(tiny_model, tmp_path, **{place: fault}) as url:
        assert outcome(url, check) == "fail"


@pytest.mark.parametrize(("loss", "conforms"), [("gspo", True), ("ppo", False)])
def test_what_a_server_refuses_is_unsupported_in_its_own_words(
    tiny_model: Path, tmp_path: Path, loss: str, conforms: bool
) -> None:
    with wrong_server(tiny_model, tmp_path, training=faults.lacking(loss)) as url:
        card = examine(url, key="tml-test", only=[f"loss_{loss}"], patience=60)
    assert (card.findings[0].status, card.conforms) == ("unsupported", conforms)
    assert "this server has no such loss" in card.findings[0].detail


def test_garbage_in_the_place_of_a_result_is_a_failure_that_shows_it(tiny_model: Path, tmp_path: Path) -> None:
    with wrong_server(tiny_model, tmp_path, app=wrong_applications.AnswersGarbage) as url:
        card = examine(url, key="tml-test", only=["metric_keys"], patience=60)
    assert card.findings[0].status == "fail"
    assert "a proxy's login page" in card.findings[0].detail


def test_a_server_that_holds_no_poll_fails(tiny_model: Path, tmp_path: Path) -> None:
    with wrong_server(tiny_model, tmp_path, hold_seconds=0.01) as url:
        assert outcome(url, "results_are_held_for") == "fail"
