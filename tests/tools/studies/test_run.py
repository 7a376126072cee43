import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from other_writer import writing_elsewhere
from waiting import wait_until, wait_until_still

from lab.engine import Kind, Rows
from lab.studies import run_sweep, write_report
from lab.studies.command import main
from lab.studies.points import Estimate
from lab.studies.sweep import make_sweep
from lipzoo.errors import ConfigError, LipzooError, OutputError
from lipzoo.training import train

TOOL = Path(__file__).parents[3] / "tools" / "reproduce.py"


def rows_of(folder, name="runs.csv"):
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def quiet(line):
    pass


def test_a_run_is_what_lipzoo_train_gives(tiny, tmp_path):
    said = []
    run_sweep(tiny, tmp_path / "sweep", jobs=2, say=said.append)
    rows = rows_of(tmp_path / "sweep")
    assert len(rows) == 8
    assert "8 of 8 runs to do" in said[0]
    assert said[-1].startswith("[8/8]")
    recipe = make_sweep(tiny, "tiny").recipe_of("GAT+LipschitzNorm", 3, 0.0)
    summary = train(recipe, tmp_path / "train", seeds=[0, 1], verbose=False)
    mine = [r for r in rows if (r["model"], r["depth"]) == ("GAT+LipschitzNorm", "3")]
    mine.sort(key=lambda row: row["seed"])
    for name in ("val", "test"):
        values = summary["metrics"][f"{name}_accuracy"]["values"]
        assert [float(row[name]) for row in mine] == values
    for row in rows:
        [log] = (tmp_path / "sweep/runs").glob(f"*_{row['recipe_hash']}/seed_{row['seed']}")
        with (log / "metrics.csv").open(newline="") as file:
            history = list(csv.DictReader(file))
        assert row["epochs"] == history[-1]["epoch"]
        best = next(r for r in history if r["epoch"] == row["best_epoch"])
        assert float(row["val"]) == float(best["val_accuracy"])
        assert float(row["seconds"]) >= 0
        assert not (log / "state.pt").exists()


def test_finished_runs_are_not_repeated_and_settings_do_not_mix(tiny, tmp_path):
    run_sweep(tiny, tmp_path, models=["GAT"], seeds=[0], say=quiet)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    first = (tmp_path / "runs.csv").read_text()
    said = []
    run_sweep(tiny, tmp_path, models=["GAT"], seeds=[0], say=said.append)
    assert said == ["depth on iris: 0 of 2 runs to do"]
    assert (tmp_path / "runs.csv").read_text() == first
    # Three layers get other settings: two layers are not trained again.
    tiny["by_depth"][3]["epochs"] = 10
    run_sweep(tiny, tmp_path, models=["GAT"], seeds=[0], say=said.append)
    assert said[1] == "depth on iris: 1 of 2 runs to do"
    assert (tmp_path / "runs.csv").read_text().startswith(first)
    report = write_report(tiny, tmp_path)
    assert "1 rows of runs.csv were made with other settings" in report
    new = rows_of(tmp_path)[-1]
    assert f"| 3 | {100 * float(new['test']):.1f} (1) |" in report


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(tiny, tmp_path):
    """As a user runs it, with SIGKILL: nothing is lost, nothing repeated."""
    tiny["recipe"] |= {"epochs": 110, "early_stopping": {"patience": 1000}}
    tiny |= {"seeds": [0], "depths": [2], "by_depth": {}}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    out = tmp_path / "killed"
    program = [sys.executable, str(TOOL), "depth", "--sweep", str(path)]
    command = [*program, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # One run is finished, another is in the middle.
    wait_until(
        lambda: (
            process.poll() is not None
            or ((out / "runs.csv").is_file() and list(out.glob("runs/*/*/state.pt")))
        )
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = rows_of(out)
    assert len(before) == 1
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "1 of 2 runs to do" in done.stdout
    assert rows_of(out)[:1] == before
    assert (out / "table.md").is_file()
    rows = rows_of(out)
    assert len(rows) == 2
    for row in rows:
        # Whether it was stopped in between or not, a run gives what it would have given.
        recipe = make_sweep(tiny, "tiny").recipe_of(row["model"], int(row["depth"]), 0.0)
        summary = train(recipe, tmp_path / row["recipe_hash"], seeds=[0], verbose=False)
        assert float(row["test"]) == summary["metrics"]["test_accuracy"]["mean"]
        assert float(row["val_loss"]) == summary["metrics"]["val_loss"]["mean"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_the_workers(tiny, tmp_path, number):
    tiny["recipe"] |= {"epochs": 100000, "early_stopping": {"patience": 100000}}
    tiny["by_depth"] = {}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    out = tmp_path / "out"
    program = [sys.executable, str(TOOL), "depth", "--sweep", str(path)]
    process = subprocess.Popen(
        [*program, "--out", str(out), "--jobs", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell starts jobs in the background with SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_until(lambda: list(out.glob("runs/*/*/metrics.csv")))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert b"Traceback" not in errors
    assert wait_until_still(lambda: out.glob("runs/*/*/metrics.csv"))


def test_a_result_that_was_not_noted_yet_is_noted_not_trained(tiny, tmp_path):
    """Killed between the end of a run and its row."""
    run_sweep(tiny, tmp_path, models=["GAT"], depths=[2], seeds=[0], say=quiet)
    [row] = rows_of(tmp_path)
    (tmp_path / "runs.csv").unlink()
    [log] = tmp_path.glob("runs/*/seed_0/metrics.csv")
    stamp = log.stat().st_mtime_ns
    run_sweep(tiny, tmp_path, models=["GAT"], depths=[2], seeds=[0], say=quiet)
    assert rows_of(tmp_path) == [{**row, "seconds": ""}]
    assert log.stat().st_mtime_ns == stamp


def test_a_failing_run_does_not_stop_the_others(tiny, tmp_path):
    blocked = make_sweep(tiny, "tiny").points(["GAT"], [2], [0])[0]
    place = tmp_path / "runs" / f"GAT_2_{blocked.recipe_hash}"
    run_sweep(tiny, tmp_path, models=["GAT"], depths=[3], seeds=[0], say=quiet)
    place.write_text("in the way")
    with pytest.raises(LipzooError, match=r"1 of 3 runs failed.*GAT, 2 layers, seed 0"):
        run_sweep(tiny, tmp_path, seeds=[0], say=quiet)
    assert len(rows_of(tmp_path)) == 3
    place.unlink()
    run_sweep(tiny, tmp_path, seeds=[0], say=quiet)
    assert len(rows_of(tmp_path)) == 4


def test_mistakes_leave_the_folder_alone(tiny, tmp_path):
    out = tmp_path / "out"
    tiny["models"]["GAT"]["overrides"] = {"hidden_feat": 8}
    with pytest.raises(ConfigError, match="hidden_feats"):
        run_sweep(tiny, out, say=quiet)
    tiny["models"]["GAT"]["overrides"] = {}
    with pytest.raises(ConfigError, match="jobs"):
        run_sweep(tiny, out, jobs=0, say=quiet)
    assert not out.exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="no sweep"):
        run_sweep(tiny, tmp_path, say=quiet)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_one_sweep_at_a_time_works_in_a_folder(tiny, tmp_path):
    (tmp_path / "sweep.yaml").write_text("kind: depth\n")
    with writing_elsewhere(tmp_path), pytest.raises(OutputError, match="by another process"):
        run_sweep(tiny, tmp_path, say=quiet)


def test_a_table_of_other_columns_is_refused(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("model,depth\nGAT,2\n")
    with pytest.raises(ConfigError, match=r"other columns .*model, depth, seed"):
        Rows(tmp_path, Kind("sweep", "sweep.yaml", "runs.csv", ("model", "depth", "seed"), ()))
    assert path.read_text() == "model,depth\nGAT,2\n"


def test_time_left_is_weighted_by_depth(tiny):
    work = make_sweep(tiny, "tiny").points(["GAT"], seeds=[0])  # 2 layers, 3 layers
    estimate = Estimate([], work, jobs=1)
    assert str(estimate) == "time left unknown"
    estimate.finish(work[0], [{"depth": 2, "seconds": "30"}])
    assert estimate.seconds() == pytest.approx(40)  # (3 + 1) layers of 10 seconds
    known = [{"depth": "3", "seconds": "70"}, {"depth": "3", "seconds": ""}]
    assert Estimate(known, work[1:], jobs=2).seconds() == pytest.approx(70)


def test_the_command_line(tiny, tmp_path, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    out = str(tmp_path / "out")
    assert main(["depth", "--out", out, "--report"]) == 2
    assert "holds no sweep" in capsys.readouterr().err
    assert main(["depth", "--out", out]) == 2
    assert "say --data (choices:" in capsys.readouterr().err
    begin = ["depth", "--sweep", str(path), "--out", out]
    assert main([*begin, "--depths", "2-3"]) == 2
    assert "--depths: depths must look like" in capsys.readouterr().err
    assert main([*begin, "--models", "GAT", "--depths", "2", "--set", "recipe.epochs=2"]) == 0
    assert os.path.isfile(f"{out}/table.md")
    first = capsys.readouterr().out
    # The report of a folder is that of the settings it was made with.
    assert main(["depth", "--out", out, "--report"]) == 0
    assert first.endswith(capsys.readouterr().out)
    assert main(["missing", "--out", out, "--report"]) == 2
