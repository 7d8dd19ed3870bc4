"""Which hub token is used? The option, then HF_TOKEN, then HUGGING_FACE_HUB_TOKEN; an empty one is none."""

import os


def hub_token(option: str | None) -> str | None:
    """The token, or None: then `huggingface_hub` uses its own login, where there is one."""
    return option or os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or None
