"""What do the drivers of the SDK's methods share: a server, its clients, and ways to demand a fact?

A driver takes the world and a way to call a method (plainly, or through its async twin), asserts, and returns what it
saw. What a server for one machine does not have (billing, audit, a trace of a session) must be refused in words, and
its driver asserts that.
"""

import uuid
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tinker
from tinker import types

WORDS = list(range(5, 15))


def fresh(stem):
    """A name never used before."""
    return f"{stem}-{uuid.uuid4().hex[:8]}"


@dataclass
class World:
    """A server, its base model, and what the drivers share."""

    url: str
    model: str

    @cached_property
    def service(self):
        return tinker.ServiceClient(base_url=self.url, user_metadata={"made": "by the matrix"}, project_id="a-project")

    @cached_property
    def rest(self):
        return self.service.create_rest_client()

    @cached_property
    def sampler(self):
        return self.settle(self.service.create_sampling_client(base_model=self.model))

    def settle(self, value):
        return value.result(timeout=120) if hasattr(value, "result") else value

    def trainer(self, **more):
        return self.settle(self.service.create_lora_training_client(base_model=self.model, rank=4, seed=1, **more))

    @cached_property
    def shared(self):
        """A trainer for drivers that read alone."""
        return self.trainer()

    def datum(self):
        tokens = WORDS
        return types.Datum(
            model_input=types.ModelInput.from_ints(tokens[:-1]),
            loss_fn_inputs={
                "target_tokens": np.asarray(tokens[1:], dtype=np.int64),
                "weights": np.ones(len(tokens) - 1, dtype=np.float32),
            },
        )

    def prompt(self):
        return types.ModelInput.from_ints(WORDS)

    def saved(self):
        """A fresh training checkpoint's path."""
        return self.settle(self.shared.save_state(fresh("state"))).path

    def saved_for_sampling(self):
        return self.settle(self.shared.save_weights_for_sampler(fresh("sampler"))).path


def check(condition, told=""):
    """Demand a fact."""
    if not condition:
        raise AssertionError(f"not so: {told}")
    return told


def refused(attempt):
    """The words in which something is refused: a 4xx or 501 of the server, never a hang or a made-up answer."""
    try:
        value = attempt()
    except tinker.APIStatusError as error:
        check(error.status_code in (400, 403, 404, 405, 422, 501), f"{error.status_code}: {error}")
        return f"refused: {error.status_code}: {error}"[:200]
    raise AssertionError(f"expected a refusal, got {value!r}"[:300])


def scores(world, output, count=1):
    """A forward output of the world's datum."""
    check(len(output.loss_fn_outputs) == count, f"{len(output.loss_fn_outputs)} outputs")
    lp = output.loss_fn_outputs[0]["logprobs"].to_numpy()
    check(lp.shape == (len(WORDS) - 1,) and bool((lp < 0).all()), f"logprobs {lp}")
    return f"loss:sum {output.metrics['loss:sum']:.4f}"


def sampled(response, count, length):
    """A response of `count` completions of `length` tokens."""
    check(len(response.sequences) == count, f"{len(response.sequences)} sequences")
    for each in response.sequences:
        check(len(each.tokens) == length and len(each.logprobs) == length, f"{len(each.tokens)} tokens")
        check(each.stop_reason == "length", each.stop_reason)
    return f"{count} x {length} tokens"
