"""How much work has been done since the server started?"""

from dataclasses import dataclass


@dataclass(kw_only=True)
class Meters:
    """Counts that only grow. For the event loop's thread alone.

    tokens_prompted, tokens_sampled: of sampling requests that were done, a prompt once for all its samples.
    tokens_trained, tokens_scored: model input tokens of forward_backward, and of forward.
    optimizer_steps: that were taken.
    """

    tokens_prompted: int = 0
    tokens_sampled: int = 0
    tokens_trained: int = 0
    tokens_scored: int = 0
    optimizer_steps: int = 0
