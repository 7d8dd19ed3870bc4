"""What the documentation shows is true: its Python blocks run in order, as one program."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_blocks_of_extending_md_run(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    program = tmp_path / "extending.py"
    program.write_text("\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)), encoding="utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "draw: Draw" in done.stdout
