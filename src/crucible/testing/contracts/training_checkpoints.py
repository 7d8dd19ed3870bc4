"""Does a training backend save and load what it says, and nothing else?"""

from pathlib import Path

import pytest

from crucible.errors import CheckpointError, ForeignCheckpointError
from crucible.ports.datum import Datum
from crucible.ports.training_client import SessionConfig, TrainingClient, TrainingSession
from crucible.testing.contracts.sequences import STEP, WAIT
from crucible.testing.contracts.suite import NotExercised
from crucible.testing.contracts.training_losses import TrainingLosses

NOT_PLAIN = ("", ".", "..", "a/b", "../a", "/a")
"""Names that are no plain file name."""


class TrainingCheckpoints(TrainingLosses):
    """`save_checkpoint`, `load_checkpoint`, `delete_checkpoint`."""

    @pytest.fixture
    def other_model(self) -> str | None:
        """A second base model; without one, refusing its checkpoints is not exercised."""

    def train(self, client: TrainingClient, session: TrainingSession, datums: list[Datum]) -> None:
        """Submit one update."""
        client.forward_backward(session, datums)
        client.optim_step(session, STEP)

    def test_a_checkpoint_holds_what_was_submitted_before_it(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, datums: list[Datum]
    ) -> None:
        self.train(client, session, datums)
        before = client.forward(session, datums)
        saving = client.save_checkpoint(session, "one")
        self.train(client, session, datums)
        saved = saving.result(WAIT)
        assert saved.kind == "weights"
        fresh = client.start_session(config).result(WAIT)
        client.load_checkpoint(fresh, saved.path).result(WAIT)
        self.assert_same(before.result(WAIT), client.forward(fresh, datums).result(WAIT))

    def test_loading_with_the_optimizer_continues_as_if_never_stopped(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, datums: list[Datum]
    ) -> None:
        self.train(client, session, datums)
        saved = client.save_checkpoint(session, "one").result(WAIT)
        fresh = client.start_session(config).result(WAIT)
        client.load_checkpoint(fresh, saved.path, optimizer=True).result(WAIT)
        for each in (session, fresh):
            self.train(client, each, datums[1:])
        self.assert_same(*(client.forward(each, datums).result(WAIT) for each in (session, fresh)))

    def test_loading_drops_what_was_accumulated_and_without_optimizer_its_state(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        self.train(client, session, datums)
        saved = client.save_checkpoint(session, "one").result(WAIT)
        before = client.forward(session, datums).result(WAIT)
        self.train(client, session, datums)
        client.forward_backward(session, datums)
        client.load_checkpoint(session, saved.path, optimizer=False).result(WAIT)
        metrics = client.optim_step(session, STEP).result(WAIT).metrics
        assert metrics.get("grad_norm", 0.0) == 0.0
        self.assert_same(before, client.forward(session, datums).result(WAIT))

    def test_a_checkpoint_to_go_on_from_is_refused_while_a_gradient_is_pending(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        client.forward_backward(session, datums).result(WAIT)
        saving = client.save_checkpoint(session, "one")
        with pytest.raises(CheckpointError, match="gradient"):
            saving.result(WAIT)
        client.optim_step(session, STEP).result(WAIT)
        client.save_checkpoint(session, "one").result(WAIT)

    def test_a_checkpoint_without_optimizer_state_loads_only_without(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        self.train(client, session, datums)
        saved = client.save_checkpoint(session, "one", optimizer=False).result(WAIT)
        loading = client.load_checkpoint(session, saved.path, optimizer=True)
        with pytest.raises(CheckpointError):
            loading.result(WAIT)
        client.load_checkpoint(session, saved.path, optimizer=False).result(WAIT)

    def test_a_name_is_a_plain_file_name(self, client: TrainingClient, session: TrainingSession) -> None:
        for save in (client.save_checkpoint, client.save_weights_for_sampler):
            for name in NOT_PLAIN:
                saving = save(session, name)
                with pytest.raises(CheckpointError):
                    saving.result(WAIT)

    def test_a_taken_name_is_refused_and_keeps_what_it_names(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        before = client.forward(session, datums).result(WAIT)
        saved = client.save_checkpoint(session, "one").result(WAIT)
        client.save_weights_for_sampler(session, "two").result(WAIT)
        self.train(client, session, datums)
        for again in (client.save_checkpoint(session, "one"), client.save_weights_for_sampler(session, "two")):
            with pytest.raises(CheckpointError):
                again.result(WAIT)
        client.load_checkpoint(session, saved.path).result(WAIT)
        self.assert_same(before, client.forward(session, datums).result(WAIT))

    def test_a_name_that_may_be_overwritten_names_what_was_saved_last(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        client.save_checkpoint(session, "one").result(WAIT)
        client.save_weights_for_sampler(session, "two").result(WAIT)
        self.train(client, session, datums)
        trained = client.forward(session, datums).result(WAIT)
        saved = client.save_checkpoint(session, "one", overwrite=True).result(WAIT)
        client.save_weights_for_sampler(session, "two", overwrite=True).result(WAIT)
        self.train(client, session, datums)
        client.load_checkpoint(session, saved.path).result(WAIT)
        self.assert_same(trained, client.forward(session, datums).result(WAIT))

    def test_a_digest_tells_one_content_from_another(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum], not_exercised: NotExercised
    ) -> None:
        first = client.save_checkpoint(session, "one").result(WAIT)
        if not first.digest:
            not_exercised("loading by digest: this backend has none")
            return
        self.train(client, session, datums)
        second = client.save_checkpoint(session, "one", overwrite=True).result(WAIT)
        assert second.digest != first.digest
        loading = client.load_checkpoint(session, second.path, digest=first.digest)
        with pytest.raises(CheckpointError):
            loading.result(WAIT)
        client.load_checkpoint(session, second.path, digest=second.digest).result(WAIT)

    def test_a_deleted_checkpoint_is_gone_and_may_be_deleted_again(
        self, client: TrainingClient, session: TrainingSession
    ) -> None:
        saved, kept = (client.save_checkpoint(session, name).result(WAIT) for name in ("one", "two"))
        sampler = client.save_weights_for_sampler(session, "one").result(WAIT)
        for _ in range(2):
            for path in (saved.path, sampler.path):
                client.delete_checkpoint(path).result(WAIT)
        loading = client.load_checkpoint(session, saved.path)
        with pytest.raises(CheckpointError):
            loading.result(WAIT)
        client.load_checkpoint(session, kept.path).result(WAIT)
        client.save_checkpoint(session, "one").result(WAIT)

    def test_a_session_says_what_it_was_started_with(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession
    ) -> None:
        assert session.config == config
        assert all(isinstance(value, str) for value in client.environment().values())

    def test_a_missing_checkpoint_is_refused_and_changes_nothing(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum], tmp_path: Path
    ) -> None:
        before = client.forward(session, datums).result(WAIT)
        loading = client.load_checkpoint(session, str(tmp_path / "no-such-checkpoint"))
        with pytest.raises(CheckpointError):
            loading.result(WAIT)
        self.assert_same(before, client.forward(session, datums).result(WAIT))

    def test_a_damaged_checkpoint_is_refused(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum], not_exercised: NotExercised
    ) -> None:
        self.train(client, session, datums)
        folder = Path(client.save_checkpoint(session, "one").result(WAIT).path)
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        if not files:
            not_exercised("a damaged checkpoint: this backend's are no local folders")
            return
        before = client.forward(session, datums).result(WAIT)
        for file in files:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        loading = client.load_checkpoint(session, str(folder))
        with pytest.raises(CheckpointError):
            loading.result(WAIT)
        self.assert_same(before, client.forward(session, datums).result(WAIT))

    def test_a_checkpoint_of_another_rank_is_refused(
        self, client: TrainingClient, session: TrainingSession, model: str
    ) -> None:
        saved = client.save_checkpoint(session, "one").result(WAIT)
        other = client.start_session(SessionConfig(model=model, lora_rank=session.lora_rank * 2)).result(WAIT)
        loading = client.load_checkpoint(other, saved.path)
        with pytest.raises(CheckpointError):
            loading.result(WAIT)

    def test_a_checkpoint_of_another_model_is_refused(
        self,
        client: TrainingClient,
        session: TrainingSession,
        other_model: str | None,
        not_exercised: NotExercised,
    ) -> None:
        if other_model is None:
            not_exercised("a checkpoint of another model: the suite has no second one")
            return
        saved = client.save_checkpoint(session, "one").result(WAIT)
        config = SessionConfig(model=other_model, lora_rank=session.lora_rank)
        loading = client.load_checkpoint(client.start_session(config).result(WAIT), saved.path)
        with pytest.raises(ForeignCheckpointError):
            loading.result(WAIT)
