"""How is a server killed under load? A process that can be killed and started again, and clients that go on."""

import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import tinker
from tinker import types
from tinker.lib.retryable_exception import RetryableException

from serving import FAKE_MODEL, KEY

CHILD = Path(__file__).with_name("served_child.py")
ADAM = types.AdamParams(learning_rate=1e-3)


def datum(number: int) -> types.Datum:
    """One of three tokens, different for every client."""
    tokens = types.TensorData(data=[number + 2, number + 3, number + 4], dtype="int64", shape=[3])
    return types.Datum(
        model_input=types.ModelInput.from_ints([number + 1, number + 2, number + 3]),
        loss_fn_inputs={"target_tokens": tokens},
    )


class ServerProcess:
    """A server on one port and folder, however often it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        self._process = subprocess.Popen([sys.executable, CHILD, self._folder, str(self._port)])
        until = time.monotonic() + 60
        while time.monotonic() < until and self._process.poll() is None:
            try:
                httpx.get(self.url + "/api/v1/healthz", trust_env=False, timeout=5).raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """kill -9, and nothing else: the socket, the database and the files are left as they are."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@dataclass
class Client:
    """A user of the SDK who trains, saves after every step, and goes on from the last save when the server was lost.

    saved: path -> loss of the next batch, as the model had it when it was saved. refused: how often it began anew.
    errors: what it met that the protocol does not have.
    """

    number: int
    url: str
    saved: dict[str, float] = field(default_factory=dict[str, float])
    refused: int = 0
    errors: list[str] = field(default_factory=list[str])

    def work(self, stop: threading.Event) -> None:
        """Train until told to stop."""
        while not stop.is_set():
            try:
                with tinker.ServiceClient(base_url=self.url, api_key=KEY) as service:
                    self._train(self._model(service), stop)
            except (tinker.APIStatusError, RetryableException) as error:
                self._begin_anew(error)
            except Exception as error:  # noqa: BLE001  (whatever else it is, it is to be shown)
                self.errors.append(repr(error))
                return

    def loss(self, model: tinker.TrainingClient) -> float:
        """Of this client's batch."""
        return model.forward([datum(self.number)], "cross_entropy").result().metrics["loss:sum"]

    def _model(self, service: tinker.ServiceClient) -> tinker.TrainingClient:
        if not self.saved:
            return service.create_lora_training_client(base_model=FAKE_MODEL, rank=4).result()
        last = list(self.saved)[-1]
        model = service.create_training_client_from_state_with_optimizer(last).result()
        if (found := self.loss(model)) != self.saved[last]:
            self.errors.append(f"{last} had a loss of {self.saved[last]} when it was saved, and {found} now")
        return model

    def _train(self, model: tinker.TrainingClient, stop: threading.Event) -> None:
        while not stop.is_set():
            model.forward_backward([datum(self.number)], "cross_entropy")
            model.optim_step(ADAM).result()
            loss = self.loss(model)
            path = model.save_state(f"step-{len(self.saved)}-{self.refused}").result().path
            self.saved[path] = loss

    def _begin_anew(self, error: Exception) -> None:
        """The protocol's answers for what a server that was killed had open: 404 and 410."""
        self.refused += 1
        if isinstance(error, tinker.APIStatusError) and error.status_code not in (404, 410):
            self.errors.append(repr(error))
