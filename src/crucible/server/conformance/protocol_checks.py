"""Are ids, replies and errors what the SDK reads them as?"""

import re

import numpy as np

from crucible.server.conformance.answers import Mismatch, Refused
from crucible.server.conformance.checkpoint_checks import refusal
from crucible.server.conformance.checks import Bench, Check, holds, probe, same, told
from crucible.server.conformance.messages import Row
from crucible.server.conformance.runs import part, promised, served_models, text

_METRIC = re.compile(r"[^:]+:(mean|sum|min|max|slack|hash2|unique)")


def client_config(bench: Bench) -> str:
    """client/config answers with a JSON object, without which the SDK does not start."""
    shown = bench.transport.ask("POST", "/client/config", {"sdk_version": "0.38.0"})
    return f"{len(shown)} settings"


def capabilities(bench: Bench) -> str:
    """get_server_capabilities lists the models, the one examined among them."""
    names = served_models(bench.transport)
    return holds(bench.base_model in names, "supported_models", expected=bench.base_model, got=names)


def model_ids(bench: Bench) -> str:
    """A model's id is SESSION:train:NUMBER, as the SDK makes it itself when it loads weights."""
    with bench.session() as session:
        run = session.run()
        return told(
            holds(
                run.model_id == f"{session.session_id}:train:1",
                "id",
                expected=f"{session.session_id}:train:1",
                got=run.model_id,
            ),
            holds(":" not in session.session_id, "the session's id", expected="no colon", got=session.session_id),
        )


def get_info(bench: Bench) -> str:
    """get_info names base model, tokenizer and LoRA rank."""
    with bench.session() as session:
        run = session.run(rank=4)
        shown = session.transport.ask("POST", "/get_info", {"model_id": run.model_id})
    data = part(shown, "model_data")
    got = (data.get("model_name"), shown.get("is_lora"), shown.get("lora_rank"), bool(data.get("tokenizer_id")))
    expected = (bench.base_model, True, 4, True)
    return holds(got == expected, "name, is_lora, rank, tokenizer", expected=expected, got=got)


def get_sampler(bench: Bench) -> str:
    """A sampler tells its base model."""
    with bench.session() as session:
        sampler = session.sampler()
        shown = session.transport.ask("GET", f"/samplers/{sampler.sampling_session_id}")
    return holds(shown.get("base_model") == bench.base_model, "base_model", expected=bench.base_model, got=shown)


def metric_keys(bench: Bench) -> str:
    """Every metric of forward_backward is NAME:REDUCTION, as the SDK demands, and loss:sum is among them."""
    with bench.session() as session:
        names = sorted(session.run().forward_backward(probe()).metrics)
    return told(
        holds(all(_METRIC.fullmatch(name) for name in names), "names", expected="name:reduction", got=names),
        holds("loss:sum" in names, "loss:sum", expected="there", got=names),
    )


def elementwise_loss(bench: Bench) -> str:
    """Each datum's output has the logprobs and the elementwise_loss of its tokens, which add up to loss:sum."""
    rows = probe()
    with bench.session() as session:
        scores = session.run().forward(rows)
    for index, each in enumerate(rows):
        shape = each.inputs["target_tokens"].shape
        for name in ("logprobs", "elementwise_loss"):
            got = scores.array(index, name).shape
            holds(got == shape, f"shape of {name}", expected=shape, got=got)
    return same("its sum", scores.flat("elementwise_loss").sum(), scores.loss, within=20 * bench.tolerance)


def errors_of_the_user(bench: Bench) -> str:
    """What the user got wrong fails the future with category user: an unknown loss, lengths that differ, a bad id."""
    rows = probe()
    short = rows[0].having(weights=np.ones(3, dtype=np.float32))
    foreign = Row(tokens=(1, 2, 2**30), inputs={"target_tokens": np.asarray([2, 3, 4])})
    with bench.session() as session:
        run = session.run()
        return told(
            refusal(lambda: run.forward_backward(rows, loss_fn="no_such_loss")),
            refusal(lambda: run.forward_backward([short])),
            refusal(lambda: run.forward_backward([foreign])),
        )


def unknown_model(bench: Bench) -> str:
    """A base model that is not served is refused, in words."""
    with bench.session() as session:
        body = {**session.create_body(), "base_model": "no-such/model"}
        return refusal(lambda: promised(session.transport, "/create_model", body).json())


def unknown_things_are_not_found(bench: Bench) -> str:
    """What does not exist is a 4xx with a body, never a 5xx: a session, a run, a checkpoint, a sampler, a result."""
    asks: tuple[tuple[str, str, dict[str, object] | None], ...] = (
        ("GET", "/sessions/no-such-session", None),
        ("GET", "/training_runs/no-such-run:train:1", None),
        ("DELETE", "/training_runs/no-such-run:train:1/checkpoints/weights/none", None),
        ("GET", "/samplers/no-such-sampler", None),
        ("POST", "/retrieve_future", {"request_id": "no-such-request"}),
        ("POST", "/get_info", {"model_id": "no-such-session:train:1"}),
    )
    found: list[str] = []
    for method, path, body in asks:
        reply = bench.transport.exchange(method, path, body)
        if not 400 <= reply.status < 500 or reply.status in (408, 409, 429):
            raise Mismatch(f"{method} {path}", expected="404 (or another refusal)", got=str(reply.status))
        holds(bool(reply.body.strip()), f"{method} {path}", expected="a body", got="none")
        found.append(str(reply.status))
    return f"statuses: {', '.join(found)}"


def malformed_bodies(bench: Bench) -> str:
    """Bytes that are no protobuf, and text that is no JSON, are a 4xx with a body."""
    found: list[str] = []
    for path, body, kind in (
        ("/forward_backward", b"\xff\xfe\x00garbage", "application/x-protobuf"),
        ("/create_session", b"{no json", "application/json"),
    ):
        reply = bench.transport.exchange("POST", path, body, headers={"Content-Type": kind})
        if not 400 <= reply.status < 500:
            raise Mismatch(f"garbage for {path}", expected="a 4xx", got=f"{reply.status} {reply.words()}")
        found.append(f"{path}: {reply.status}")
    return ", ".join(found)


def unknown_keys_are_ignored(bench: Bench) -> str:
    """Keys that a newer SDK may send are ignored."""
    with bench.session() as session:
        body = {**session.create_body(), "a_key_of_tomorrow": 1}
        run_id = text(promised(session.transport, "/create_model", body).json(), "model_id")
    return f"created {run_id}"


def heartbeat(bench: Bench) -> str:
    """A session's heartbeat is answered."""
    with bench.session() as session:
        shown = session.transport.ask("POST", "/session_heartbeat", {"session_id": session.session_id})
    return holds(shown.get("type") == "session_heartbeat", "type", expected="session_heartbeat", got=shown)


def session_finish(bench: Bench) -> str:
    """A session can be finished."""
    session = bench.session()
    reply = session.transport.accepted(
        "POST", f"/sessions/{session.session_id}/finish", {"reason": {"type": "success"}}
    )
    return f"status {reply.status}"


def sessions_are_listed(bench: Bench) -> str:
    """A session is listed, and shows its runs and samplers."""
    with bench.session() as session:
        run, sampler = session.run(), session.sampler()
        shown = session.transport.ask("GET", f"/sessions/{session.session_id}")
        listed = session.transport.ask("GET", "/sessions?limit=50&offset=0").get("sessions")
    got = (shown.get("training_run_ids"), shown.get("sampler_ids"))
    expected = ([run.model_id], [sampler.sampling_session_id])
    return told(
        holds(got == expected, "runs and samplers", expected=expected, got=got),
        holds(isinstance(listed, list), "the list", expected="a list", got=type(listed).__name__),
    )


def dimuon_is_refused_or_done(bench: Bench) -> str:
    """An optimizer that the server lacks is refused by name, not replaced by another."""
    with bench.session() as session:
        body = {**session.create_body(), "optimizer_config": {"type": "dimuon", "version": 1}}
        try:
            shown = promised(session.transport, "/create_model", body).json()
        except Refused as error:
            return holds("dimuon" in error.words.lower(), "the refusal", expected="a word of dimuon", got=error.words)
        info = session.transport.ask("POST", "/get_info", {"model_id": text(shown, "model_id")})
    kind = part(info, "optimizer_config").get("type")
    return holds(kind == "dimuon", "the run's optimizer", expected="dimuon", got=kind)


CHECKS = (
    Check(client_config),
    Check(capabilities),
    Check(model_ids),
    Check(get_info),
    Check(get_sampler),
    Check(heartbeat),
    Check(session_finish),
    Check(sessions_are_listed),
    Check(metric_keys),
    Check(elementwise_loss),
    Check(errors_of_the_user),
    Check(unknown_model),
    Check(unknown_things_are_not_found),
    Check(malformed_bodies),
    Check(unknown_keys_are_ignored),
    Check(dimuon_is_refused_or_done),
)
