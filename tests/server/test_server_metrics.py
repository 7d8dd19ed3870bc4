"""What does a scrape tell, and what does it keep to itself?"""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from crucible.server.metrics import measured_app
from serving import FAKE_MODEL, KEY, fake_served

ASKED = {"model": FAKE_MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "stream": True}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    with fake_served(tmp_path / "server") as served:
        _, secret = served.store.keys.create("a-name")
        app = measured_app(served, any_key=False, loopback=True)
        transport, headers = httpx.ASGITransport(app=app), {"X-API-Key": secret}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            yield client


async def test_requests_are_counted_by_route_and_status(http: httpx.AsyncClient) -> None:
    await http.get("/api/v1/training_runs/no-such-run")
    await http.get("/api/v1/sessions", headers={"X-API-Key": KEY})
    await http.get("/api/v1/secret-path")
    await http.request("BREW", "/api/v1/sessions")
    told = (await http.get("/metrics")).text
    assert 'total{method="GET",route="/api/v1/training_runs/{run_id}",status="404"} 1.0' in told
    assert 'total{method="GET",route="other",status="401"} 1.0' in told
    assert 'total{method="GET",route="other",status="404"} 1.0' in told
    assert 'total{method="other",route="/api/v1/sessions",status="405"} 1.0' in told
    assert 'request_seconds_count{route="/api/v1/training_runs/{run_id}"} 1.0' in told
    assert not any(word in told for word in ("no-such-run", "secret-path", "a-name", "tml-"))


async def test_tokens_are_counted(http: httpx.AsyncClient) -> None:
    await http.post("/v1/chat/completions", json=ASKED)
    usage = (await http.post("/v1/chat/completions", json=ASKED | {"stream": False, "seed": 1})).json()["usage"]
    told = dict(line.split() for line in (await http.get("/metrics")).text.splitlines() if line[0] != "#")
    assert float(told["crucible_server_tokens_prompted_total"]) == 2 * usage["prompt_tokens"]
    assert float(told["crucible_server_tokens_sampled_total"]) > usage["completion_tokens"]
    assert float(told["crucible_server_waiting_samples"]) == 0


async def test_health_is_told_to_anybody_and_metrics_are_not(http: httpx.AsyncClient) -> None:
    nobody = {"X-API-Key": ""}
    assert [(await http.get(path, headers=nobody)).status_code for path in ("/healthz", "/metrics")] == [200, 401]
