"""Fine-tune in children, kill them at random moments, resume, and print what was found as JSON.

``python killed_finetuning.py SOURCE KILLS``; `training/test_finetune_killed.py` runs it. The
children are forks of one process, which pays for the imports once. It must not start threads, for
they do not survive a fork: it never runs a model.
"""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

import lipzoo
from lipzoo.errors import CheckpointError

with contextlib.suppress(ImportError):
    import torch.utils.tensorboard  # the training loop's, which is slow to import

FORK = multiprocessing.get_context("fork")


def finetune(source, task, out):
    lipzoo.finetune(
        source,
        task,
        unfreeze_every=2,
        layer_lr_decay=0.8,
        class_weight="balanced",
        epochs=8,
        out=out,
        resume=True,
        save_every=1,
        verbose=False,
        feat_drop=0.3,
        attn_drop=0.2,
    )


def start(source, task, out):
    child = FORK.Process(target=finetune, args=(source, task, out))
    child.start()
    return child


def finish(source, task, out):
    """Run it to its end; the seconds that it takes."""
    begin = time.perf_counter()
    child = start(source, task, out)
    child.join()
    assert child.exitcode == 0, f"exit code {child.exitcode} in {out}"
    return time.perf_counter() - begin


def loaded(out):
    """The weights in a checkpoint, and None where there is none yet."""
    try:
        return lipzoo.load_pretrained(out).state_dict()
    except CheckpointError as fault:
        if "holds no card.yaml" not in str(fault):
            raise
        return None


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def main(source, folder, kills):
    torch.set_num_threads(1)
    lipzoo.load_pretrained(source)  # imports what is imported when it is needed
    task = lipzoo.load_dataset("iris", split_seed=1)
    span = min(finish(source, task, folder / f"whole_{number}") for number in range(3))
    whole = loaded(folder / "whole_0")
    draw = random.Random(0)
    found = {"killed": 0, "with_state": 0, "before_state": 0, "after_end": 0, "wrong": []}
    while found["killed"] < kills and found["after_end"] < 2 * kills:
        out = folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        child = start(source, task, out)
        state = out / "training" / "state.pt"
        if found["killed"] % 2:  # between two states, a short time
            while child.is_alive() and not state.is_file():
                time.sleep(0.001)
            time.sleep(span * draw.random() / 20)
        else:  # one moment in each of as many equal parts of the span
            time.sleep(span * (found["killed"] + draw.random()) / kills)
        child.kill()
        child.join()
        if child.exitcode == 0:
            found["after_end"] += 1
            span *= 0.95  # the machine is less busy than it was
            continue
        moment = found["killed"]
        found["killed"] += 1
        half_way = loaded(out)
        if half_way is not None and not same(half_way, whole):
            found["wrong"].append(f"kill {moment}: a checkpoint of other weights")
        found["with_state" if state.is_file() else "before_state"] += 1
        if state.is_file():
            torch.load(state, weights_only=True)
        finish(source, task, out)
        if not same(loaded(out), whole):
            found["wrong"].append(f"kill {moment}: other weights at the end")
        left = [str(p) for p in out.rglob(".*") if p.is_file()]
        if left:
            found["wrong"].append(f"kill {moment}: left {left}")
    print(json.dumps(found))


if __name__ == "__main__":
    # In memory where that can be: a kill does not ask for fsync, which takes most of the time.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        main(Path(sys.argv[1]), Path(scratch), int(sys.argv[2]))
