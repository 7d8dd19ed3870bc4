"""How is each public method of RestClient driven, and what must come back? See `sdk_world` for what a driver is."""

from datetime import date, datetime, timedelta, timezone

from sdk_world import check, fresh, refused, scores
from tinker import types


def get_server_capabilities(world, call):
    models = [each.model_name for each in call(world.rest, "get_server_capabilities").supported_models]
    return check(world.model in models, models)


def get_training_run(world, call):
    run_id = run_of(world.saved())
    run = call(world.rest, "get_training_run", run_id)
    return check(run.training_run_id == run_id and run.is_lora and run.base_model == world.model, run)


def run_of(path):
    return path.removeprefix("tinker://").split("/")[0]


def checkpoint_of(path):
    return path.removeprefix("tinker://").split("/", 1)[1]


def get_training_run_by_tinker_path(world, call):
    path = world.saved()
    return check(call(world.rest, "get_training_run_by_tinker_path", path).training_run_id == run_of(path), path)


def get_weights_info_by_tinker_path(world, call):
    info = call(world.rest, "get_weights_info_by_tinker_path", world.saved())
    return check(info.base_model == world.model and info.is_lora and info.lora_rank == 4, info)


def list_training_runs(world, call):
    runs = call(world.rest, "list_training_runs", limit=100)
    known = [each.training_run_id for each in runs.training_runs]
    return check(run_of(world.saved()) in known and runs.cursor.total_count >= len(known) > 0, len(known))


def listed(world, path):
    found = world.settle(world.rest.list_checkpoints(run_of(path))).checkpoints
    return {each.tinker_path: each for each in found}


def list_checkpoints(world, call):
    path = world.saved()
    found = call(world.rest, "list_checkpoints", run_of(path)).checkpoints
    entry = next(each for each in found if each.tinker_path == path)
    return check(entry.checkpoint_id == checkpoint_of(path) and entry.checkpoint_type == "training", entry)


def list_user_checkpoints(world, call):
    path = world.saved()
    found = [each.tinker_path for each in call(world.rest, "list_user_checkpoints", limit=500).checkpoints]
    return check(path in found, len(found))


def delete_checkpoint(world, call):
    path = world.saved()
    call(world.rest, "delete_checkpoint", run_of(path), checkpoint_of(path))
    return check(path not in listed(world, path), "gone")


def delete_checkpoint_from_tinker_path(world, call):
    path = world.saved()
    call(world.rest, "delete_checkpoint_from_tinker_path", path)
    return check(path not in listed(world, path), "gone")


def publish(world, call):
    path = world.saved()
    call(world.rest, "publish_checkpoint_from_tinker_path", path)
    return check(listed(world, path)[path].public, "public")


def unpublish(world, call):
    path = world.saved()
    world.settle(world.rest.publish_checkpoint_from_tinker_path(path))
    call(world.rest, "unpublish_checkpoint_from_tinker_path", path)
    return check(not listed(world, path)[path].public, "private again")


def set_ttl(world, call):
    path = world.saved()
    call(world.rest, "set_checkpoint_ttl_from_tinker_path", path, 7200)
    expires = listed(world, path)[path].expires_at
    world.settle(world.rest.set_checkpoint_ttl_from_tinker_path(path, None))
    return check(expires is not None and listed(world, path)[path].expires_at is None, f"{expires}, then never")


def external_urls(world, call):
    import urllib.request

    path = world.settle(world.shared.save_weights_external(fresh("urls"))).path
    urls = call(world.rest, "get_external_weights_urls", path).urls
    sizes = {}
    for name, url in urls.items():
        with urllib.request.urlopen(url, timeout=30) as reply:
            sizes[name] = len(reply.read())
    return check(any(name.endswith(".safetensors") for name in sizes) and min(sizes.values()) > 0, sizes)


def archive(world, call):
    path = world.saved_for_sampling()
    return archive_read(call(world.rest, "get_checkpoint_archive_url", run_of(path), checkpoint_of(path)))


def archive_by_path(world, call):
    return archive_read(call(world.rest, "get_checkpoint_archive_url_from_tinker_path", world.saved_for_sampling()))


def archive_read(answer):
    import io
    import tarfile
    import urllib.request

    with urllib.request.urlopen(answer.url, timeout=30) as reply:
        whole = io.BytesIO(reply.read())
    with tarfile.open(fileobj=whole) as files:
        names = files.getnames()
    return check(any(name.endswith(".safetensors") for name in names), names)


def rest_copy_weights(world, call):
    path = world.saved()
    copied = call(world.rest, "copy_weights", path, destination_project_id="a-project")
    check(copied.startswith("tinker://") and copied != path, copied)
    trainer = world.settle(world.service.create_training_client_from_state(copied))
    return scores(world, world.settle(trainer.forward([world.datum()], "cross_entropy")))


def list_sessions(world, call):
    world.saved()
    found = call(world.rest, "list_sessions", limit=100).sessions
    return check(world.service.holder.get_session_id() in found, len(found))


def get_session(world, call):
    path = world.saved()
    session = call(world.rest, "get_session", world.service.holder.get_session_id())
    return check(run_of(path) in session.training_run_ids, len(session.training_run_ids))


def get_sampler(world, call):
    sampler = call(world.rest, "get_sampler", world.sampler._sampling_session_id)
    return check(sampler.base_model == world.model, sampler)


def search_sessions(world, call):
    session_id = world.service.holder.get_session_id()
    found = call(world.rest, "search_sessions", types.SessionSearchRequest(session_id=session_id)).sessions
    return check([each.session_id for each in found] == [session_id], found)


def rest_telemetry(world, call):
    call(world.rest, "get_telemetry")
    return "answers"


def whoami(world, call):
    try:
        call(world.rest, "whoami")
    except RuntimeError as error:
        return f"without a JWT the SDK itself says: {error}"[:160]
    raise AssertionError("whoami answers without a JWT")


def assign_session_project(world, call):
    session_id = world.service.holder.get_session_id()
    call(world.rest, "assign_session_project", session_id, "a-project")
    return "assigned"


def export_session_trace(world, call):
    try:
        url = call(world.rest, "export_session_trace", world.service.holder.get_session_id())
    except RuntimeError as error:
        return check("records no traces" in str(error), f"refused: {error}")
    return check(url.startswith("http"), url)


def get_audit_log(world, call):
    try:
        return refused(lambda: call(world.rest, "get_audit_log", day=date(2026, 1, 1)))
    except AssertionError as error:
        # Up to 0.36 the async twin asserts that it runs in the SDK's own loop, where no caller can be.
        return check("incorrect event loop" in str(error), f"the SDK itself says: {error}")


def get_billing_usage(world, call):
    now = datetime.now(timezone.utc)  # noqa: UP017  (an SDK's date arithmetic, on any Python)
    return refused(lambda: call(world.rest, "get_billing_usage", now - timedelta(days=1), now))


def get_storage_usage(world, call):
    world.saved()
    (usage,) = call(world.rest, "get_current_checkpoint_storage_usage").data
    return check(usage.checkpoint_count >= 1 and usage.size_bytes > 0, usage)


DRIVERS = {
    "assign_session_project": assign_session_project,
    "copy_weights": rest_copy_weights,
    "delete_checkpoint": delete_checkpoint,
    "delete_checkpoint_from_tinker_path": delete_checkpoint_from_tinker_path,
    "export_session_trace": export_session_trace,
    "get_audit_log": get_audit_log,
    "get_billing_usage": get_billing_usage,
    "get_checkpoint_archive_url": archive,
    "get_checkpoint_archive_url_from_tinker_path": archive_by_path,
    "get_current_checkpoint_storage_usage": get_storage_usage,
    "get_external_weights_urls": external_urls,
    "get_sampler": get_sampler,
    "get_server_capabilities": get_server_capabilities,
    "get_session": get_session,
    "get_telemetry": rest_telemetry,
    "get_training_run": get_training_run,
    "get_training_run_by_tinker_path": get_training_run_by_tinker_path,
    "get_weights_info_by_tinker_path": get_weights_info_by_tinker_path,
    "list_checkpoints": list_checkpoints,
    "list_sessions": list_sessions,
    "list_training_runs": list_training_runs,
    "list_user_checkpoints": list_user_checkpoints,
    "publish_checkpoint_from_tinker_path": publish,
    "search_sessions": search_sessions,
    "set_checkpoint_ttl_from_tinker_path": set_ttl,
    "unpublish_checkpoint_from_tinker_path": unpublish,
    "whoami": whoami,
}
