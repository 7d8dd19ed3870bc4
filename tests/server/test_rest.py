"""Does the official SDK's REST client read runs, checkpoints and sessions as they are?"""

import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import tinker
from calls import Caller
from tinker.types import SessionSearchRequest

from serving import FAKE_MODEL, KEY, Serving, fake_served, running

LORA = {"rank": 4, "seed": 1, "train_unembed": False}


@pytest.fixture
def rest(fake_server: Serving) -> tinker.RestClient:
    return tinker.RestClient(base_url=fake_server.url, api_key=KEY)


@pytest.fixture
def saved(http: httpx.Client) -> Caller:
    """A session with one model, which has one checkpoint of each of the two kinds."""
    caller = Caller.new(http)
    _save(caller, "/save_weights", "state")
    _save(caller, "/save_weights_for_sampler", "policy")
    return caller


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, fake_server: Serving) -> Iterator[list[float]]:
    """What the server takes for the time: seconds after now, which a test may set."""
    now, offset = datetime.now(UTC).timestamp(), [0.0]
    monkeypatch.setattr(fake_server.served.store, "_clock", lambda: now + offset[0])
    yield offset


def _save(caller: Caller, route: str, name: str) -> None:
    number = next(caller.numbers)
    caller.done(caller.post(route, {"model_id": caller.model_id, "seq_id": number, "path": name}))


def _path(caller: Caller, kind: str = "weights", name: str = "state") -> str:
    return f"tinker://{caller.model_id}/{kind}/{name}"


def test_a_run_says_what_it_is_and_what_it_saved_last(rest: tinker.RestClient, saved: Caller) -> None:
    run = rest.get_training_run(saved.model_id).result()
    assert (run.training_run_id, run.base_model, run.is_lora, run.lora_rank) == (saved.model_id, FAKE_MODEL, True, 8)
    assert run.last_checkpoint is not None
    assert run.last_checkpoint.tinker_path == _path(saved)
    assert run.last_sampler_checkpoint is not None
    assert run.last_sampler_checkpoint.checkpoint_id == "sampler_weights/policy"
    assert rest.get_training_run_by_tinker_path(_path(saved)).result() == run


def test_runs_come_in_pages_that_say_how_many_there_are(rest: tinker.RestClient, http: httpx.Client) -> None:
    made = [Caller.new(http).model_id for _ in range(3)]
    page = rest.list_training_runs(limit=2).result()
    rest_of = rest.list_training_runs(limit=2, offset=2).result()
    listed = [run.training_run_id for run in [*page.training_runs, *rest_of.training_runs]]
    assert sorted(listed) == sorted(made)
    assert (page.cursor.limit, page.cursor.offset, page.cursor.total_count) == (2, 0, 3)


def test_checkpoints_are_listed_by_run_and_by_user(rest: tinker.RestClient, saved: Caller) -> None:
    of_run = rest.list_checkpoints(saved.model_id).result().checkpoints
    assert {one.checkpoint_id: one.checkpoint_type for one in of_run} == {
        "weights/state": "training",
        "sampler_weights/policy": "sampler",
    }
    assert all(one.size_bytes and not one.public and one.expires_at is None for one in of_run)
    of_user = rest.list_user_checkpoints().result()
    assert {one.tinker_path for one in of_user.checkpoints} == {one.tinker_path for one in of_run}
    assert of_user.cursor is not None
    assert of_user.cursor.total_count == 2


def test_a_deleted_checkpoint_is_gone_with_its_files(
    rest: tinker.RestClient, saved: Caller, fake_server: Serving, tmp_path: Path
) -> None:
    rest.delete_checkpoint_from_tinker_path(_path(saved)).result()
    assert [one.checkpoint_id for one in rest.list_checkpoints(saved.model_id).result().checkpoints] == [
        "sampler_weights/policy"
    ]
    assert list((tmp_path / "server" / "checkpoints" / "weights").iterdir()) == []
    with pytest.raises(tinker.NotFoundError):
        rest.delete_checkpoint(saved.model_id, "weights/state").result()


def test_a_checkpoint_expires_when_its_time_is_over(
    rest: tinker.RestClient, saved: Caller, clock: list[float], fake_server: Serving, tmp_path: Path
) -> None:
    rest.set_checkpoint_ttl_from_tinker_path(_path(saved), 3600).result()
    expires = rest.get_training_run(saved.model_id).result().last_checkpoint.expires_at
    assert abs(expires - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    clock[0] = 3700.0
    assert rest.get_training_run(saved.model_id).result().last_checkpoint is None
    with pytest.raises(tinker.NotFoundError):
        rest.get_weights_info_by_tinker_path(_path(saved)).result()
    assert fake_server.served.vault.sweep() == 1
    assert list((tmp_path / "server" / "checkpoints" / "weights").iterdir()) == []


def test_a_ttl_can_be_taken_away(rest: tinker.RestClient, saved: Caller, clock: list[float]) -> None:
    rest.set_checkpoint_ttl_from_tinker_path(_path(saved), 3600).result()
    rest.set_checkpoint_ttl_from_tinker_path(_path(saved), None).result()
    clock[0] = 3700.0
    assert rest.get_weights_info_by_tinker_path(_path(saved)).result().lora_rank == 8


@pytest.mark.parametrize("ttl", [0, -5, 10**12, "long", 1.5])
def test_a_ttl_that_is_no_time_to_come_is_refused(http: httpx.Client, saved: Caller, ttl: object) -> None:
    answer = http.put(f"/training_runs/{saved.model_id}/checkpoints/weights/state/ttl", json={"ttl_seconds": ttl})
    assert (answer.status_code, "ttl_seconds" in answer.json()["detail"]) == (400, True)


def test_publishing_is_undone_by_unpublishing(rest: tinker.RestClient, saved: Caller) -> None:
    rest.publish_checkpoint_from_tinker_path(_path(saved)).result()
    assert rest.get_training_run(saved.model_id).result().last_checkpoint.public
    rest.unpublish_checkpoint_from_tinker_path(_path(saved)).result()
    assert not rest.get_training_run(saved.model_id).result().last_checkpoint.public


def test_weights_info_says_what_is_needed_to_load_them(rest: tinker.RestClient, http: httpx.Client) -> None:
    caller = Caller.new(http, model=False)
    made = {"session_id": caller.session_id, "model_seq_id": 0, "base_model": FAKE_MODEL, "lora_config": LORA}
    caller.model_id = caller.done(caller.post("/create_model", made))["model_id"]
    _save(caller, "/save_weights", "state")
    info = rest.get_weights_info_by_tinker_path(_path(caller)).result()
    assert (info.base_model, info.is_lora, info.lora_rank) == (FAKE_MODEL, True, 4)
    assert (info.train_unembed, info.train_mlp, info.train_attn) == (False, True, True)
    assert info.optimizer_config.type == "adamw"


def test_a_copy_is_a_run_of_its_own_that_outlives_its_source(rest: tinker.RestClient, saved: Caller) -> None:
    path = rest.copy_weights(_path(saved), "my-project", ttl_seconds=7200).result()
    copied = rest.get_training_run_by_tinker_path(path).result()
    assert copied.training_run_id != saved.model_id
    assert copied.last_checkpoint is not None
    assert copied.last_checkpoint.expires_at is not None
    assert copied.user_metadata == {"copied_from": _path(saved)}
    assert [run.training_run_id for run in rest.list_training_runs(project_id="my-project").result().training_runs] == [
        copied.training_run_id
    ]
    rest.delete_checkpoint_from_tinker_path(_path(saved)).result()
    loaded = {"session_id": saved.session_id, "model_seq_id": 7, "path": path, "optimizer": True}
    assert saved.done(saved.post("/load_weights", loaded))["model_id"].endswith(":train:7")
    rest.delete_checkpoint_from_tinker_path(path).result()


def test_a_copy_that_is_asked_for_twice_is_made_once(http: httpx.Client, saved: Caller) -> None:
    asked = {"source_path": _path(saved), "destination_project_id": "p"}
    answers = [http.post("/copy_weights", json=asked, headers={"X-Idempotency-Key": "one"}).json() for _ in range(2)]
    assert answers[0] == answers[1]
    other = http.post("/copy_weights", json=asked, headers={"X-Idempotency-Key": "two"}).json()
    assert other != answers[0]


def test_a_copy_may_take_a_place_in_a_session(http: httpx.Client, saved: Caller) -> None:
    asked = {"source_path": _path(saved), "session_id": saved.session_id, "model_seq_id": 5}
    path = http.post("/copy_weights", json=asked).json()["tinker_path"]
    assert path == f"tinker://{saved.session_id}:train:5/weights/state"
    other = http.post("/copy_weights", json=asked | {"source_path": _path(saved, "sampler_weights", "policy")})
    assert (other.status_code, "already" in other.json()["detail"]) == (400, True)


def test_copying_from_another_account_is_refused_by_name(rest: tinker.RestClient, saved: Caller) -> None:
    with pytest.raises(tinker.BadRequestError, match="weights_access_token"):
        rest.copy_weights(_path(saved), "p", weights_access_token="token").result()


def test_a_session_lists_its_runs_and_samplers(rest: tinker.RestClient, saved: Caller) -> None:
    sampler = saved.post(
        "/create_sampling_session",
        {"session_id": saved.session_id, "sampling_session_seq_id": 0, "base_model": FAKE_MODEL},
    )
    session = rest.get_session(saved.session_id).result()
    assert session.training_run_ids == [saved.model_id]
    assert session.sampler_ids == [sampler["sampling_session_id"]]
    assert rest.list_sessions().result().sessions == [saved.session_id]


def test_a_session_moves_into_a_project_with_its_runs(rest: tinker.RestClient, saved: Caller) -> None:
    rest.assign_session_project(saved.session_id, "p").result()
    assert rest.list_training_runs(project_id="p").result().cursor.total_count == 1
    with pytest.raises(tinker.NotFoundError):
        rest.assign_session_project("no-such-session", "p").result()


@pytest.mark.filterwarnings("ignore:RestClient.search_sessions is experimental")
def test_a_search_pages_through_the_sessions_newest_first(rest: tinker.RestClient, http: httpx.Client) -> None:
    made = [
        http.post("/create_session", json={"tags": [], "sdk_version": "0", "display_name": f"Night {n}"}).json()
        for n in range(5)
    ]
    request = SessionSearchRequest(display_name="night", limit=2)
    found: list[str] = []
    while True:
        page = rest.search_sessions(request).result()
        found += [session.session_id for session in page.sessions]
        if page.next_cursor is None:
            break
        request = request.model_copy(update={"cursor": page.next_cursor})
    assert found == [session["session_id"] for session in reversed(made)]


@pytest.mark.filterwarnings("ignore:RestClient.search_sessions is experimental")
def test_a_found_session_says_how_it_ended_and_what_it_stores(rest: tinker.RestClient, saved: Caller) -> None:
    assert saved.http.post(f"/sessions/{saved.session_id}/finish", json={"reason": {"type": "errored"}}).is_success
    (found,) = rest.search_sessions(SessionSearchRequest()).result().sessions
    assert (found.status.type, found.status.reason.type) == ("client_finished", "errored")
    assert found.checkpoints_count == 2
    assert found.checkpoint_storage_bytes == sum(
        one.size_bytes for one in rest.list_user_checkpoints().result().checkpoints
    )


def test_a_trace_that_there_is_not_is_refused_by_name(rest: tinker.RestClient, saved: Caller) -> None:
    with pytest.raises(RuntimeError, match="this server records no traces"):
        rest.export_session_trace(saved.session_id).result()


def test_what_an_administrator_asks_is_answered_honestly(fake_server: Serving, saved: Caller) -> None:
    admin = tinker.AdminClient(base_url=fake_server.url, api_key=KEY)
    with pytest.raises(tinker.PermissionDeniedError, match="keeps no audit log"):
        admin.get_audit_log().result()
    with pytest.raises(tinker.PermissionDeniedError, match="bills nothing"):
        admin.get_billing_usage("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z").result()
    (usage,) = admin.get_current_checkpoint_storage_usage().result().data
    assert (usage.checkpoint_count, usage.estimated_monthly_cost_usd) == (2, None)
    assert usage.size_bytes > 0


def test_what_does_not_exist_is_a_404(rest: tinker.RestClient, saved: Caller) -> None:
    for asked in (
        lambda: rest.get_training_run("nobody:train:0"),
        lambda: rest.list_checkpoints("nobody:train:0"),
        lambda: rest.get_session("nobody"),
        lambda: rest.export_session_trace("nobody"),
        lambda: rest.delete_checkpoint(saved.model_id, "weights/nothing"),
        lambda: rest.publish_checkpoint_from_tinker_path(_path(saved, name="nothing")),
        lambda: rest.get_weights_info_by_tinker_path(_path(saved, name="nothing")),
    ):
        with pytest.raises(tinker.NotFoundError):
            asked().result()


@pytest.mark.parametrize(
    "path", ["", "state", "/etc/passwd", "tinker://", "tinker://a/b", "tinker://a/b/c", "tinker://a/weights/../x"]
)
def test_what_is_no_checkpoints_path_is_refused(http: httpx.Client, path: str) -> None:
    answer = http.post("/weights_info", json={"tinker_path": path})
    assert (answer.status_code, "this is no path of a checkpoint" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=x", "offset=1.5", "limit=" + "9" * 30, "access_scope=all", "limit=٣"]
)
def test_a_page_that_cannot_be_is_refused(http: httpx.Client, query: str) -> None:
    answer = http.get(f"/training_runs?{query}")
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_names_with_odd_characters_are_data_and_never_paths(http: httpx.Client, saved: Caller) -> None:
    for name in ("%2e%2e%2fserver.db", "%00", "a%2Fb", "%F0%9F%98%80", "x" * 3000):
        for run in (saved.model_id, name):
            answer = http.delete(f"/training_runs/{run}/checkpoints/weights/{name}")
            assert answer.status_code == 404


def test_metadata_that_is_no_text_is_told_as_text(http: httpx.Client, rest: tinker.RestClient) -> None:
    caller = Caller.new(http, model=False)
    made = {"session_id": caller.session_id, "model_seq_id": 0, "base_model": FAKE_MODEL, "lora_config": LORA}
    made["user_metadata"] = {"step": 3, "name": "x"}
    model_id = caller.done(caller.post("/create_model", made))["model_id"]
    assert rest.get_training_run(model_id).result().user_metadata == {"step": "3", "name": "x"}


def test_the_archive_of_older_sdks_is_a_tar_behind_a_signed_url(
    http: httpx.Client, saved: Caller, tmp_path: Path
) -> None:
    answer = http.get(f"/training_runs/{saved.model_id}/checkpoints/weights/state/archive")
    assert answer.status_code == 302
    archive = tmp_path / "checkpoint.tar"
    urllib.request.urlretrieve(answer.headers["location"], archive)
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["fake_weights.json"]
        inside = tar.extractfile("fake_weights.json")
        assert inside is not None
        assert inside.read() == next((tmp_path / "server" / "checkpoints" / "weights").glob("*/*")).read_bytes()


def test_a_signed_url_is_good_for_its_own_file_and_not_when_it_was_changed(http: httpx.Client, saved: Caller) -> None:
    answer = http.get(f"/training_runs/{saved.model_id}/checkpoints/weights/state/archive")
    url = answer.headers["location"]
    token = url.split("/")[-2]
    changed = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    for wrong in (url.replace(token, changed), url.replace("checkpoint.tar", "server.db"), url.replace(token, "x")):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(wrong)
        assert error.value.code in (403, 404)
        error.value.close()


def test_a_signed_url_is_good_for_an_hour(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    headers = {"X-API-Key": KEY}
    with (
        fake_served(tmp_path) as served,
        running(replace(served, clock=lambda: now[0])) as serving,
        httpx.Client(base_url=serving.url + "/api/v1", headers=headers, trust_env=False) as http,
    ):
        caller = Caller.new(http)
        _save(caller, "/save_weights", "state")
        url = http.get(f"/training_runs/{caller.model_id}/checkpoints/weights/state/archive").headers["location"]
        now[0] += 3599
        assert httpx.get(url, trust_env=False).status_code == 200
        now[0] += 2
        assert httpx.get(url, trust_env=False).status_code == 403
