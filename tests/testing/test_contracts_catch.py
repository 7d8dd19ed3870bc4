"""A contract suite that passes whatever it is given proves nothing: each of these faults has to be caught."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CAUGHT_BY = {
    "AveragesLosses": "test_losses_add_up_over_datums",
    "ReversesOutputs": "test_each_datum_gets_its_logprobs_and_elementwise_loss",
    "NamesMetricsWithoutReduction": "test_metric_keys_are_name_and_reduction_and_the_loss_is_there",
    "KeepsGradients": "test_optim_step_clears_what_it_used",
    "ForwardTrains": "test_forward_accumulates_nothing",
    "RunsCallsOutOfOrder": "test_calls_take_effect_in_the_order_submitted",
    "ForgetsOnLoad": "test_loading_drops_what_was_accumulated_and_without_optimizer_its_state",
    "SnapshotsFollowTraining": "test_a_sampler_opens_the_weights_as_saved_and_training_cannot_move_them",
    "OverwritesCheckpoints": "test_a_taken_name_is_refused_and_keeps_what_it_names",
    "RaisesAtSubmission": "test_a_malformed_datum_is_refused",
    "HalfAppliesFailedCalls": "test_a_failed_call_leaves_the_session_as_it_was",
    "IsNotExact": "test_the_same_calls_give_the_same_bytes",
    "IgnoresSeeds": "test_samples_and_seeds_differ",
    "DropsStopTokens": "test_a_stop_token_ends_the_completion_and_is_included",
    "ClipsNothing": "test_every_loss_is_its_formula",
    "TrainsOnPrompts": "test_a_prompt_has_no_loss_whatever_its_targets_are",
    "LosesTheGradientOfOneLoss": (
        "test_the_gradient_of_every_loss_is_that_of_cross_entropy_weighted_by_minus_its_derivative"
    ),
    "TakesTensorsThatItDoesNotRead": (
        "test_a_tensor_that_is_missing_not_finite_of_another_shape_or_not_read_is_refused_by_name"
    ),
    "ScoresTheFirstOfSeveralTargets": ("test_several_targets_at_a_position_are_scored_each_and_their_losses_added"),
    "CountsNoSteps": "test_optimizer_steps_are_counted_saved_and_loaded",
    "ServesTheBaseModel": "test_sampled_logprobs_are_the_trainers_alone_and_in_any_batch",
    "ForgetsWhichWeights": "test_a_response_says_which_weights_drew_it",
    "LeansOnNeighbours": "test_a_completion_is_the_same_whatever_is_sampled_beside_it",
    "IgnoresTheReport": "test_a_report_that_does_not_fit_the_prompt_is_refused",
    "ShiftsTheTargets": "test_targets_are_scored_where_asked_for_and_zero_where_not",
    "ScoresAllOfThePrompt": "test_the_last_n_of_a_prompt_are_scored_as_in_the_whole",
    "TellsOfTheFirstCompletionAlone": "test_a_request_is_told_of_its_tokens_as_they_are_drawn",
    "GoesOnWithoutItsListener": "test_a_listener_that_raises_ends_its_own_request",
    "AddsBos": "test_encoding_adds_no_token_of_its_own",
    "ShufflesAnew": "test_a_shuffle_is_a_permutation_drawn_from_the_seed",
    "ClimbsOut": "test_a_key_that_is_no_relative_path_is_refused_by_every_method",
    "LosesNan": "test_nan_and_infinity_are_kept",
    "ServesTheLatestAlways": "test_a_commit_is_a_revision_that_stays",
}


FILES = [Path(__file__).parent / name for name in ("broken_adapters.py", "broken_backends.py")]
NOT_EXERCISED = "LosesNan", "test_a_recorded_row_survives_the_process"


def node(broken, test):
    """The address of a suite's test under a broken adapter."""
    (file,) = (file for file in FILES if f"class Test{broken}(" in file.read_text())
    return f"{file}::Test{broken}::{test}"


@pytest.fixture(scope="module")
def output():
    """What pytest says of the broken adapters, each under the test that is to catch it."""
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider"]
    nodes = [node(*each) for each in [*CAUGHT_BY.items(), NOT_EXERCISED]]
    return subprocess.run(
        [*command, "-p", "crucible.testing.contracts.report", *nodes], capture_output=True, text=True, timeout=120
    ).stdout


@pytest.mark.parametrize(("broken", "caught_by"), CAUGHT_BY.items())
def test_a_broken_promise_is_caught(output, broken, caught_by):
    assert re.search(rf"FAILED \S+::Test{broken}::{caught_by}\b", output)


def test_no_broken_adapter_is_forgotten():
    text = "".join(file.read_text() for file in FILES)
    assert set(re.findall(r"^class Test(\w+)", text, re.MULTILINE)) == set(CAUGHT_BY)


def test_what_was_not_exercised_is_counted(output):
    assert "contract guarantees not exercised" in output
    assert "TestLosesNan: surviving the process" in output
