"""Is everything that was saved there after a kill, and do clients learn what was lost, and go on?"""

import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import tinker
from calls import Caller, datum
from tinker import types

from served_process import ServedProcess, served_process
from serving import KEY, sdk

MODEL = "org/tiny"
CLIENTS = 4


def _http(server: ServedProcess) -> httpx.Client:
    url, headers = server.url + "/api/v1", {"X-API-Key": KEY}
    return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)


def _train_and_save(server: ServedProcess, saved: list[str], enough: threading.Event) -> str:
    """Train and save until the server is gone; every path that was promised goes to `saved`. Returns the model's id."""
    model_id = ""
    try:
        with _http(server) as http:
            caller = Caller.new(http, base_model=MODEL)
            model_id = caller.model_id
            for step in range(1000):
                caller.scored(caller.forward_backward(next(caller.numbers), datum()))
                caller.done(caller.call("/optim_step", adam_params={"learning_rate": 1e-3}))
                route = "/save_weights" if step % 2 else "/save_weights_for_sampler"
                asked = {"model_id": model_id, "seq_id": next(caller.numbers), "path": f"step{step}"}
                saved.append(caller.done(caller.post(route, asked))["path"])
                if len(saved) >= 4 * CLIENTS:
                    enough.set()
    except httpx.TransportError:
        return model_id
    raise AssertionError("the server was not killed")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, list[str], list[str]]:
    """The data folder of a server that was killed while clients saved; what was saved, and the models' ids."""
    data = tmp_path_factory.mktemp("killed") / "data"
    saved: list[str] = []
    enough = threading.Event()
    with served_process(data, "--model", f"{MODEL}={tiny_model}") as server, ThreadPoolExecutor(CLIENTS) as clients:
        working = [clients.submit(_train_and_save, server, saved, enough) for _ in range(CLIENTS)]
        assert enough.wait(timeout=120)
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        models = [each.result() for each in working]
    return data, saved, models


@pytest.mark.slow
def test_after_a_kill_every_saved_checkpoint_loads_and_open_sessions_are_said_to_be_lost(
    killed: tuple[Path, list[str], list[str]], tiny_model: Path
) -> None:
    data, saved, models = killed
    with served_process(data, "--model", f"{MODEL}={tiny_model}") as server, _http(server) as http:
        assert f"note: {CLIENTS} sessions were open" in server.said.read_text()
        listed = {one["tinker_path"] for one in http.get("/checkpoints?limit=1000").json()["checkpoints"]}
        assert set(saved) <= listed
        assert _folders(data) == len(listed)
        caller = Caller.new(http, model=False)
        for number, path in enumerate(sorted(listed)):
            if "/weights/" in path:
                asked = {"session_id": caller.session_id, "model_seq_id": number, "path": path, "optimizer": True}
                caller.model_id = caller.done(caller.post("/load_weights", asked))["model_id"]
                caller.scored(caller.forward_backward(1, datum()))
            else:
                asked = {"session_id": caller.session_id, "sampling_session_seq_id": number, "model_path": path}
                assert caller.completed(
                    caller.sample(caller.post("/create_sampling_session", asked)["sampling_session_id"], 0)
                )
        for model_id in models:
            session_id = model_id.partition(":")[0]
            gone = http.post("/session_heartbeat", json={"session_id": session_id})
            assert (gone.status_code, "lost" in gone.json()["detail"]) == (410, True)
            step = http.post("/optim_step", json={"model_id": model_id, "seq_id": 99, "adam_params": {}})
            assert (step.status_code, "has ended" in step.json()["detail"]) == (410, True)


ROW = types.Datum(
    model_input=types.ModelInput.from_ints([1, 2, 3, 4]),
    loss_fn_inputs={
        "target_tokens": types.TensorData(data=[2, 3, 4, 5], dtype="int64", shape=[4]),
        "weights": types.TensorData(data=[1.0] * 4, dtype="float32", shape=[4]),
    },
)


def _step(client: tinker.TrainingClient) -> float:
    loss = client.forward_backward([ROW], "cross_entropy").result().metrics["loss:sum"]
    client.optim_step(types.AdamParams(learning_rate=1e-2)).result()
    return loss


@pytest.mark.slow
@pytest.mark.parametrize("copied", [False, True])
def test_the_sdk_goes_on_from_its_last_checkpoint_as_if_nothing_had_happened(
    tmp_path: Path, tiny_model: Path, copied: bool
) -> None:
    words = ["--model", f"{MODEL}={tiny_model}", *(["--copies", tmp_path / "copies"] if copied else [])]
    with served_process(tmp_path / "data", *words) as server:
        service = tinker.ServiceClient(base_url=server.url, api_key=KEY)
        straight = service.create_lora_training_client(MODEL, rank=4, seed=5).result()
        losses = [_step(straight) for _ in range(2)]
        path = straight.save_state("resume").result().path
        losses += [_step(straight) for _ in range(2)]
        server.stop(signal.SIGKILL)
    if copied:
        shutil.rmtree(tmp_path / "data" / "checkpoints")
    with served_process(tmp_path / "data", *words, "--port", server.url.rpartition(":")[2]) as again:
        with pytest.raises(Exception, match="has ended"):
            _step(straight)
        with sdk(again.url) as other:
            resumed = other.create_training_client_from_state_with_optimizer(path).result()
            assert [_step(resumed) for _ in range(2)] == losses[2:]


def _folders(data: Path) -> int:
    """Folders of checkpoints on the disk, unfinished ones too."""
    return len(list((data / "checkpoints").glob("*/*")))
