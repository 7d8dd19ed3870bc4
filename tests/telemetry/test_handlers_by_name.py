"""Can each handler be switched on by a word, and is a wrong word one sentence?"""

import pytest

from crucible.errors import ConfigError
from crucible.telemetry import Bus
from crucible.telemetry.chrome_trace import ChromeTrace
from crucible.telemetry.handlers import open_handler
from crucible.telemetry.percentiles import Durations
from crucible.telemetry.prometheus import Prometheus


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("prometheus:0", Prometheus),
        ("prometheus:127.0.0.1:0", Prometheus),
        ("trace", ChromeTrace),
        ("durations", Durations),
    ],
)
def test_a_word_opens_a_handler_that_says_what_it_wants_to_hear(tmp_path, spec, kind):
    handler, bus = open_handler(spec, tmp_path / "run"), Bus()
    bus.attach("handler", handler.events, handler)
    for turn in ("start", "stop"):
        bus.emit(f"stage.{turn}", {"duration_ns": 1}, {"run_id": "run", "path": "w > a", "stage": "a"})
    assert isinstance(handler, kind) and bus.attached() == ("handler",)
    handler.close()
    handler.close()
    assert (tmp_path / "run" / "trace.json").exists() == (kind is ChromeTrace)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("promethius:9400", "no such telemetry handler .given: promethius:9400.. Did you mean prometheus?"),
        ("zzz", "Known: durations, otel, prometheus, trace"),
        ("", "Known: durations"),
        ("trace:here", "trace takes no argument"),
        ("prometheus:here", "the port is not a number"),
        ("prometheus:99999999", "no scrape endpoint can be opened here"),
    ],
)
def test_a_wrong_word_is_one_sentence(tmp_path, spec, said):
    with pytest.raises(ConfigError, match=said):
        open_handler(spec, tmp_path)
