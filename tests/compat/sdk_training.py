"""How is each public method of TrainingClient driven, and what must come back? See `sdk_world` for what a driver is."""

from sdk_world import WORDS, check, fresh, sampled, scores
from tinker import types


def forward(world, call):
    output = call(world.shared, "forward", [world.datum(), world.datum()], "cross_entropy")
    return scores(world, output, 2)


def forward_backward(world, call):
    return scores(world, call(world.trainer(), "forward_backward", [world.datum()], "cross_entropy"))


def forward_backward_custom(world, call):
    def doubled(data, logprobs):
        loss = -2.0 * sum(each.sum() for each in logprobs)
        return loss, {"doubled:sum": float(loss.detach())}

    output = call(world.trainer(), "forward_backward_custom", [world.datum()], doubled)
    return check("doubled:sum" in output.metrics, output.metrics)


def optim_step(world, call):
    trainer = world.trainer()
    before = world.settle(trainer.forward_backward([world.datum()], "cross_entropy")).metrics["loss:sum"]
    call(trainer, "optim_step", types.AdamParams(learning_rate=1e-2))
    after = world.settle(trainer.forward([world.datum()], "cross_entropy")).metrics["loss:sum"]
    return check(after < before, f"loss {before:.4f} -> {after:.4f}")


def save_state(world, call):
    name = fresh("saved")
    path = call(world.shared, "save_state", name, ttl_seconds=3600, user_metadata={"a": "b"}).path
    return check(path.startswith("tinker://") and path.endswith(f"/weights/{name}"), path)


def load_state(world, call):
    path = world.saved()
    return check(call(world.trainer(), "load_state", path).path is not None, path)


def load_state_with_optimizer(world, call):
    path = world.saved()
    return check(call(world.trainer(), "load_state_with_optimizer", path).path is not None, path)


def save_weights_for_sampler(world, call):
    name = fresh("sampler")
    path = call(world.shared, "save_weights_for_sampler", name).path
    return check(path.endswith(f"/sampler_weights/{name}"), path)


def save_weights_and_get_sampling_client(world, call):
    sampler = call(world.shared, "save_weights_and_get_sampling_client")
    return sampled(world.settle(sampler.sample(world.prompt(), 1, types.SamplingParams(max_tokens=2, stop=[]))), 1, 2)


def save_weights_external(world, call):
    name = fresh("external")
    path = call(world.shared, "save_weights_external", name).path
    return check(path.endswith(f"/external_weights/{name}"), path)


def create_sampling_client(world, call):
    sampler = call(world.shared, "create_sampling_client", world.saved_for_sampling())
    return sampled(world.settle(sampler.sample(world.prompt(), 1, types.SamplingParams(max_tokens=2, stop=[]))), 1, 2)


def training_info(world, call):
    info = call(world.shared, "get_info")
    return check(info.model_data.model_name == world.model and info.lora_rank == 4, info.model_data)


def training_tokenizer(world, call):
    return check(call(world.shared, "get_tokenizer").decode(WORDS) is not None, "decodes")


def training_console_url(world, call):
    return check(call(world.shared, "get_console_url").startswith("http"), "a URL")


def training_telemetry(world, call):
    call(world.shared, "get_telemetry")
    return "answers"


DRIVERS = {
    "create_sampling_client": create_sampling_client,
    "forward": forward,
    "forward_backward": forward_backward,
    "forward_backward_custom": forward_backward_custom,
    "get_console_url": training_console_url,
    "get_info": training_info,
    "get_telemetry": training_telemetry,
    "get_tokenizer": training_tokenizer,
    "load_state": load_state,
    "load_state_with_optimizer": load_state_with_optimizer,
    "optim_step": optim_step,
    "save_state": save_state,
    "save_weights_and_get_sampling_client": save_weights_and_get_sampling_client,
    "save_weights_external": save_weights_external,
    "save_weights_for_sampler": save_weights_for_sampler,
}
