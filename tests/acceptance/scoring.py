"""How would a program that knows nothing of crucible score the held-out rows?"""

import json
import subprocess
import sys
from pathlib import Path

from crucible.framework import RunResult
from crucible.kitchen.stages.evaluating import in_order
from crucible.train.data import SupervisedDataset

_SCORE = """
import json, sys
import torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
form, folder, base, rows = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder if form == "merged" else base, dtype=torch.float32)
if form == "peft":
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, folder)
model.eval()
total, count, lines = 0.0, 0, []
for line in open(rows):
    row = json.loads(line)
    tokens, targets, trained = (torch.tensor(row[key]) for key in ("tokens", "targets", "trained"))
    with torch.no_grad():
        logprobs = model(tokens[None]).logits[0].log_softmax(-1)[torch.arange(len(targets)), targets]
    total -= logprobs[trained].sum().item()
    count += int(trained.sum())
    lines.append(logprobs.tolist())
print(json.dumps({"nll": total / count, "logprobs": lines}))
"""


def heldout_of(result: RunResult) -> SupervisedDataset:
    """The run's held-out data set."""
    heldout = result.state["heldout"]
    assert isinstance(heldout, SupervisedDataset)
    return heldout


def score_outside(form: str, folder: Path, base: Path, result: RunResult, scratch: Path) -> dict:
    """NLL per trained token and all logprobs of the run's held-out rows, by plain transformers (and peft)."""
    heldout, lines = heldout_of(result), []
    for batch in in_order(heldout):
        for datum in heldout.render(batch).datums:
            inputs = datum.loss_fn_inputs
            row = {
                "tokens": datum.model_input.to_ints(),
                "targets": inputs["target_tokens"].tolist(),
                "trained": (inputs["weights"].data > 0).tolist(),
            }
            lines.append(json.dumps(row) + "\n")
    rows = scratch / "heldout.jsonl"
    rows.write_text("".join(lines))
    program = [sys.executable, "-W", "ignore", "-c", _SCORE, form, folder, base, rows]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
