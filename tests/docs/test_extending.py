"""What the documentation shows is true: its Python blocks run in order, as one program."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def output_of(page: str, folder: Path) -> str:
    """What the blocks of a page print."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    program = folder / "program.py"
    program.write_text("\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)), encoding="utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_blocks_of_extending_md_run(tmp_path: Path) -> None:
    assert "draw: Draw" in output_of("extending.md", tmp_path)


def test_the_blocks_of_environments_md_run(tmp_path: Path) -> None:
    printed = output_of("environments.md", tmp_path)
    assert len(printed.splitlines()) == 3 and "turns" in printed
