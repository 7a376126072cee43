"""A process that has imported everything, forks a child for each piece of work, and kills it.

A line of JSON in, a line of JSON out. ``seconds`` kills the child from outside after that time;
``call`` lets it kill itself at that call among those that write files, so that moments inside a
write, which are short, are met too.
"""

import functools
import json
import os
import signal
import sys
import tempfile
import time
import traceback

import torch

from lipzoo.training import export_run, run, train
from lipzoo.training.recipe import make_recipe

sys.modules["torch.utils.tensorboard"] = None  # its events are not compared, and take time

WRITERS = ("_yaml.py", "weights.py", "tempfile.py")


def do_train(folder, recipe, **options):
    run.fit = functools.partial(run.fit, save_every=3)
    train(make_recipe(recipe, "test"), folder, verbose=False, **options)


WORK = {"train": do_train, "export": functools.partial(export_run, overwrite=True)}


class Calls:
    """Counts the calls of those who write, and ends at the chosen one."""

    def __init__(self, last):
        self.last, self.made = last, 0

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename.endswith(WRITERS):
            self.made += 1
            if self.made == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def in_child(order, pipe):
    calls = Calls(order.get("call"))
    if "call" in order:
        sys.setprofile(calls)
    try:
        WORK[order["work"]](*order["args"], **order.get("options", {}))
    finally:
        sys.setprofile(None)
    os.write(pipe, str(calls.made).encode())


def carry_out(order):
    mine, theirs = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            in_child(order, theirs)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(theirs)
    if order.get("seconds") is not None:
        time.sleep(order["seconds"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    calls = os.read(mine, 64)
    os.close(mine)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "seconds": time.monotonic() - began, "calls": int(calls or 0)}


def warm_up():
    """Import what is imported late, with one thread: OpenMP's would not survive the fork."""
    torch.set_num_threads(1)
    recipe = {"architecture": "test_tiny", "dataset": {"name": "iris"}, "epochs": 1, "seeds": [0]}
    with tempfile.TemporaryDirectory() as folder:
        do_train(f"{folder}/run", recipe)
        export_run(f"{folder}/run", f"{folder}/out")


if __name__ == "__main__":
    warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)
