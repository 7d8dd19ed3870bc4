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
    "AddsBos": "test_encoding_adds_no_token_of_its_own",
    "ShufflesAnew": "test_a_shuffle_is_a_permutation_drawn_from_the_seed",
    "ClimbsOut": "test_a_key_that_is_no_relative_path_is_refused_by_every_method",
    "LosesNan": "test_nan_and_infinity_are_kept",
    "ServesTheLatestAlways": "test_a_commit_is_a_revision_that_stays",
}


@pytest.fixture(scope="module")
def output():
    """What pytest says of the broken adapters."""
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider"]
    file = Path(__file__).parent / "broken_adapters.py"
    return subprocess.run(
        [*command, "-p", "crucible.testing.contracts.report", str(file)], capture_output=True, text=True, timeout=120
    ).stdout


@pytest.mark.parametrize(("broken", "caught_by"), CAUGHT_BY.items())
def test_a_broken_promise_is_caught(output, broken, caught_by):
    assert caught_by in set(re.findall(rf"FAILED \S+::Test{broken}::(\w+)", output))


def test_no_broken_adapter_is_forgotten(output):
    assert set(re.findall(r"FAILED \S+::Test(\w+)::", output)) == set(CAUGHT_BY)


def test_what_was_not_exercised_is_counted(output):
    assert "contract guarantees not exercised" in output
    assert "TestLosesNan: surviving the process" in output
