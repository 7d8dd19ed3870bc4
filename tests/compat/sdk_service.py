"""How is each public method of ServiceClient driven, and what must come back? See `sdk_world` for what a driver is."""

import tinker
from sdk_world import check, sampled, scores
from tinker import types


def create_lora_training_client(world, call):
    trainer = call(world.service, "create_lora_training_client", world.model, rank=4, seed=3, user_metadata={"k": "v"})
    return scores(world, world.settle(trainer.forward([world.datum()], "cross_entropy")))


def create_training_client_from_state(world, call):
    trainer = call(world.service, "create_training_client_from_state", world.saved())
    return scores(world, world.settle(trainer.forward([world.datum()], "cross_entropy")))


def create_training_client_from_state_with_optimizer(world, call):
    trainer = call(world.service, "create_training_client_from_state_with_optimizer", world.saved())
    return scores(world, world.settle(trainer.forward([world.datum()], "cross_entropy")))


def service_sampling_client(world, call):
    base = call(world.service, "create_sampling_client", base_model=world.model)
    tuned = call(world.service, "create_sampling_client", model_path=world.saved_for_sampling())
    for each in (base, tuned):
        sampled(world.settle(each.sample(world.prompt(), 1, types.SamplingParams(max_tokens=2, stop=[]))), 1, 2)
    return check(tuned.get_base_model() == world.model, "of the base model and of saved weights")


def capabilities(world, call):
    models = [each.model_name for each in call(world.service, "get_server_capabilities").supported_models]
    return check(world.model in models, models)


def create_rest_client(world, call):
    return check(world.settle(call(world.service, "create_rest_client").list_sessions()) is not None, "lists sessions")


def create_custom_loss(world, call):
    def neg_ll(logprobs, weights):
        loss = -(logprobs * weights).sum()
        return loss, {"custom/neg_ll:sum": loss}

    trainer = world.trainer()
    handle = call(world.service, "create_custom_loss", neg_ll, input_ranks={"logprobs": 1, "weights": 1})
    output = world.settle(trainer.forward_backward_custom([world.datum()], handle))
    return check(any("neg_ll" in name for name in output.metrics), output.metrics)


def copy_weights(world, call):
    path = world.saved()
    copied = call(world.service, "copy_weights", path)
    return check(copied.startswith("tinker://") and copied != path, copied)


def service_console_url(world, call):
    return check(call(world.service, "get_console_url").startswith("http"), "a URL")


def service_telemetry(world, call):
    call(world.service, "get_telemetry")
    return "answers"


def holder(world, call):
    return check(call(world.service, "holder") is not None, "there")


def close(world, call):
    other = tinker.ServiceClient(base_url=world.url)
    world.settle(other.create_sampling_client(base_model=world.model))
    call(other, "close", "success")
    return "finished"


DRIVERS = {
    "close": close,
    "copy_weights": copy_weights,
    "create_custom_loss": create_custom_loss,
    "create_lora_training_client": create_lora_training_client,
    "create_rest_client": create_rest_client,
    "create_sampling_client": service_sampling_client,
    "create_training_client_from_state": create_training_client_from_state,
    "create_training_client_from_state_with_optimizer": create_training_client_from_state_with_optimizer,
    "get_console_url": service_console_url,
    "get_server_capabilities": capabilities,
    "get_telemetry": service_telemetry,
    "holder": holder,
}
