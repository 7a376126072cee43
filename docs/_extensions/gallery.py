"""The gallery of weights: a table, and a page for each, written from the cards before the build.

What it writes lies in ``docs/gallery/``, which git ignores.
"""

from __future__ import annotations

import html
import math
import shutil
from pathlib import Path

from lipzoo import plots
from lipzoo._figures import save_figure
from lipzoo._tables import markdown_table
from lipzoo._yaml import to_yaml
from lipzoo.card import Card, Summary
from lipzoo.info import decisive, percent
from lipzoo.listing import Row, list_rows
from lipzoo.plots.curves import column_words
from lipzoo.plots.style import COLOURS, GREY, drawing
from lipzoo.registry import find_checkpoint
from lipzoo.settings import per_seed
from lipzoo.weights import CURVE_FILE, Curve, read_curve

__all__ = ["index_page", "table_html", "weights_page", "write_gallery"]

#: Columns that are those of ``lipzoo list``.
COLUMNS = ("graph", "layers", "norm")
TERMINAL = (
    "`lipzoo list --pretrained` shows the same in a terminal, `results/models.csv` to a program."
)
METRIC_WORDS = {"roc_auc": "ROC AUC", "micro_f1": "micro-F1", "macro_f1": "macro-F1"}
#: For the parameters, of which one wants to see the thousands.
WITH_COMMAS = """function (data, type) {
    return type === 'display' ? Number(data).toLocaleString('en') : data;
}"""
#: For screen readers: which column a field searches. The fields come when DataTables has begun.
NAME_THE_FIELDS = """<script>
new MutationObserver(() => {
    const names = document.querySelectorAll('#weights-table thead tr:first-child th');
    document.querySelectorAll('#weights-table thead tr:nth-child(2) > *').forEach((cell, at) => {
        const name = names[at].textContent.trim();
        cell.querySelector('input')?.setAttribute('aria-label', `search in ${name}`);
        cell.querySelector('select')?.setAttribute('aria-label', `how to compare ${name}`);
    });
}).observe(document.querySelector('div.wide'), {childList: true, subtree: true});
</script>"""


def setup(app):
    """Write the gallery before the pages are read."""
    app.connect("builder-inited", lambda app: write_gallery(Path(app.srcdir) / "gallery"))
    return {"version": "1", "parallel_read_safe": True}


def write_gallery(folder: Path) -> list[str]:
    """Write the table and the pages; the names of the weights that have one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = list_rows(pretrained=True)
    (folder / "index.md").write_text(index_page(rows), encoding="utf-8")
    for row in rows:
        checkpoint = find_checkpoint(row.name)
        card, curve = checkpoint.card, read_curve(checkpoint.folder)
        if decisive(card):
            draw_seeds(card, folder / f"{row.name}.svg")
        if curve is not None:
            draw_curve(card, curve, folder)
        (folder / f"{row.name}.md").write_text(weights_page(card, curve), encoding="utf-8")
    return [row.name for row in rows]


# The table


def index_page(rows: list[Row]) -> str:
    """The page with the table."""
    names = "\n".join(row.name for row in rows)
    return f"""# Weights

The package comes with {len(rows)} sets of weights. The field on top searches all columns, the one
below a column's name that column alone; a click on the name sorts. "test %" is the mean over the
seeds of the metric beside it, on the test nodes, and "±" its standard deviation. "-" stands where
weights are not made for one graph. The name of the weights leads to all figures, the recipe, and
what to type.

{TERMINAL}

```{{raw}} html
{table_html(rows)}
```

```{{toctree}}
:hidden:

{names}
```
"""


def table_html(rows: list[Row]) -> str:
    """The table as HTML, with what sorts and filters it: DataTables, as itables brings it."""
    import pandas as pd
    from itables import JavascriptFunction, to_html_datatable
    from itables.javascript import generate_init_offline_itables_html
    from itables.options import dt_bundle

    frame = pd.DataFrame([_cells(row) for row in rows])
    parameters = frame.columns.get_loc("parameters")
    table = to_html_datatable(
        frame,
        connected=False,
        allow_html=True,
        display_logo_when_loading=False,
        table_id="weights-table",  # "weights" is the heading
        classes="display compact",
        style="width:100%",
        paging=False,
        showIndex=False,
        text_in_header_can_be_selected=False,
        layout={"topStart": "info", "topEnd": "search", "bottomStart": None, "bottomEnd": None},
        language={"search": "Search:", "info": "_TOTAL_ sets of weights", "infoEmpty": "none"},
        columnControl=[{"target": 1, "content": ["search"]}],
        columnDefs=[{"targets": [parameters], "render": JavascriptFunction(WITH_COMMAS)}],
        maxBytes=0,
    )
    around = '<div class="wide" tabindex="0" role="region" aria-label="Table of weights">'
    script = generate_init_offline_itables_html(dt_bundle)
    return f"{script}\n{around}\n{table}\n</div>\n{NAME_THE_FIELDS}"


def _cells(row: Row) -> dict[str, object]:
    values = row.values
    mean, _, spread = row.words.get("test %", "").partition(" ± ")
    link = f'<a href="{html.escape(row.name)}.html">{html.escape(row.name)}</a>'
    cells: dict[str, object] = {"weights": link}
    cells |= {key: values[key] or "-" for key in COLUMNS}
    cells["test %"] = float(mean) if mean else "-"
    cells["±"] = float(spread) if spread else "-"
    cells["metric"] = _metric_words(values["metric"]) if values["metric"] else "-"
    cells["parameters"] = values["parameters"]
    cells["MB"] = round(values["size"] / 1e6, 2)
    return cells


def _metric_words(metric: str) -> str:
    return METRIC_WORDS.get(metric, metric.replace("_", " "))


# The pages


def weights_page(card: Card, curve: Curve | None = None) -> str:
    """All that the card says of one set of weights, and the curve of their training."""
    sections = [f"# {card.full_name}", card.description, _facts(card), *_use(card)]
    if metric := decisive(card):
        sections += _figures(card, metric)
    sections += ["## Training curve", *_curve(card, curve)]
    sections += ["## Lipschitz bound", _bound(card), *_origin(card)]
    return "\n\n".join(sections) + "\n"


def _facts(card: Card) -> str:
    args = card.architecture.args
    size = (card.weights.num_bytes or 0) / 1e6
    seen = ", ".join(entry.name for entry in card.pretrained_on or [card.dataset])
    facts = {
        "architecture": f"`{card.name}` (`{card.architecture.model}`, {args['num_layers']} layers)",
        "parameters": f"{card.weights.num_parameters:,} ({size:.2f} MB)",
        "data": f"{seen}; see [](../data.md)",
        "source": card.source,
        "licence": card.licence,
    }
    return "\n".join(markdown_table(["", ""], [[f"**{k}**", v] for k, v in facts.items()]))


def _use(card: Card) -> list[str]:
    name = card.full_name
    load = f'```python\nimport lipzoo\n\nmodel = lipzoo.load_pretrained("{name}")\n```'
    tune = f"lipzoo finetune {name} --data wine --out runs/tuned --epochs 20"
    if card.reads_context:
        shell = f"lipzoo predict {name} --data wine --out predictions.csv"
        told = (
            "These weights predict the nodes of any graph with features, from the labels of its "
            "training nodes: [](../context.md)."
        )
    elif card.pretrained_on:
        shell = tune
        told = (
            "These weights have no head: fine-tune them. They read features of any width, "
            "encoded: [](../transfer.md)."
        )
    else:
        shell = f"lipzoo evaluate {name}\n{tune}"
        told = (
            "`evaluate` measures the weights on the graph and split of the card. Fine-tuning on "
            "another graph replaces the input layer and the head: [](../fine_tuning.md)."
        )
    return ["## Use", load, f"```bash\n{shell}\n```", told]


def _figures(card: Card, metric: str) -> list[str]:
    return [
        "## Figures",
        _figure_words(card, metric),
        _figure_table(card, metric),
        f"![{_metric_words(metric)} of each seed]({card.full_name}.svg)",
    ]


def _figure_words(card: Card, metric: str) -> str:
    of_seed = card.weights.metrics.get(f"test_{metric}")
    these = "" if of_seed is None else f" The weights are those of seed {card.weights.seed}"
    reached = "" if of_seed is None else f", which has {100 * of_seed:.1f} on the test nodes."
    names = per_seed(card.recipe.get("dataset"))
    each = f" Each seed has its own `{'` and `'.join(names)}`." if names else ""
    return (
        f"{_metric_words(metric)[:1].upper()}{_metric_words(metric)[1:]} in %, mean ± standard "
        f"deviation over {len(card.seeds)} seeds. The epoch, and the seed whose weights these are, "
        f"were chosen on the validation nodes.{these}{reached}{each}"
    )


def _figure_table(card: Card, metric: str) -> str:
    rows = [
        [
            words,
            *(percent(of[key]) if (key := f"{split}_{metric}") in of else "-" for split in SPLITS),
        ]
        for words, of in _compared(card)
    ]
    return "\n".join(markdown_table(["", "validation", "test"], rows, figures=True))


SPLITS = ("val", "test")


def _compared(card: Card) -> list[tuple[str, dict[str, Summary]]]:
    """The weights and what the card compares them with."""
    baselines = [(name.replace("_", " "), of) for name, of in card.baselines.items()]
    return [("these weights", card.metrics), *baselines]


def _curve(card: Card, curve: Curve | None) -> list[str]:
    if curve is not None:
        pictures = [
            f"![{' and '.join(map(column_words, columns))} over the epochs]({name})"
            for name, columns in _curve_pictures(card, curve).items()
        ]
        words = f"{curve.words(card)} A dot marks the epoch whose weights were kept."
        return [words, *pictures]
    if not _is_recipe(card):
        return [
            "None was kept. The command below pretrains the weights again and writes its curve to "
            f"`runs/replay/checkpoint/{CURVE_FILE}`."
        ]
    seed = f" --seeds {card.weights.seed}"
    export = f"lipzoo export runs/replay --out runs/{card.full_name}"
    return [
        f"None was kept. These commands train the seed of these weights again and write its curve "
        f"to `runs/{card.full_name}/{CURVE_FILE}`:",
        f"```text\n{_replay(card)}{seed}\n{export}\n```",
    ]


def _curve_pictures(card: Card, curve: Curve) -> dict[str, list[str]]:
    """By file, what it shows: the losses, and the metric where it was recorded."""
    names = [
        key
        for key in curve.rows[0]
        if key != "epoch" and any(map(math.isfinite, (row[key] for row in curve.rows)))
    ]
    losses = [key for key in names if key.endswith("_loss")]
    found = {f"{card.full_name}.loss.svg": losses} if losses else {}
    if metrics := [key for key in names if key not in losses]:
        found[f"{card.full_name}.metric.svg"] = metrics[:1]
    return found


def draw_curve(card: Card, curve: Curve, folder: Path) -> None:
    """Losses, and the metric, over the epochs."""
    seed = card.weights.seed or 0
    for name, columns in _curve_pictures(card, curve).items():
        axes = plots.training_curves({seed: curve.rows}, columns, best={seed: curve.epoch})
        save_figure(axes.figure, folder / name)


def _bound(card: Card) -> str:
    found = card.lipschitz
    if found is None:
        return "The card has none; `lipzoo certify` computes one where there is one."
    if found.bound is None:
        return f"None: {found.reason or 'the card does not say why'}."
    return (
        f"On the graph of the card the output moves by at most {found.bound:.3g} times what the "
        "features move by, both measured over all nodes together (Frobenius norm). Where every "
        "node's features move by at most 1, no node's output moves by more than "
        f"{found.bound_per_node:.3g}. That is proven for all features. What a deep network really "
        "does is far below it: [](../lipschitz.md)."
    )


def _origin(card: Card) -> list[str]:
    entries = card.pretrained_on or [card.dataset]
    data = [[f"`{e.name}`", f"`{e.options}`", f"`{e.fingerprint[:16] or '-'}`"] for e in entries]
    versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    device = card.weights.device
    replay = (
        f"All seeds were trained together on `{device}`: a replay agrees within their spread."
        if device
        else "With the code that trained them and on the same type of machine it gives the same "
        "weights. The CPU kernels have changed the order of their sums since: on large graphs "
        "expect the seeds' spread, not the bits."
    )
    recipe = f"```yaml\n{to_yaml(card.recipe).strip()}\n```"
    return [
        "## Recipe",
        replay,
        f"```text\n{_replay(card)}\n```",
        recipe,
        "## Data",
        "\n".join(markdown_table(["graph", "options", "fingerprint"], data)),
        f"Made with {versions}. SHA-256 of the weights: `{card.weights.sha256}`.",
    ]


def _is_recipe(card: Card) -> bool:
    """Whether `lipzoo train` replays it; others were pretrained."""
    return not (card.reads_context or card.pretrained_on)


def _replay(card: Card) -> str:
    if card.reads_context:
        return "python tools/pretrain.py context_8 --out runs/replay"
    if card.pretrained_on:
        return f"python tools/pretrain.py {card.tag} --out runs/replay"
    flags = f" --device {card.weights.device}" if card.weights.device else ""
    return f"lipzoo train pretrained/{card.full_name}/card.yaml --out runs/replay{flags}"


def draw_seeds(card: Card, path: Path) -> None:
    """A dot a seed, a line at the mean, a row for the weights and for each baseline."""
    key = f"test_{decisive(card)}"
    compared = [(words, of[key]) for words, of in _compared(card) if key in of][::-1]
    with drawing(None, 6.4, 0.9 + 0.42 * len(compared)) as axes:
        for row, (words, summary) in enumerate(compared):
            colour = COLOURS[0] if words == "these weights" else GREY
            values = [100 * value for value in summary.values]
            axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.6)
            axes.vlines(100 * summary.mean, row - 0.3, row + 0.3, color=colour, linewidth=2)
        axes.set_yticks(range(len(compared)), [words for words, _ in compared])
        axes.set_ylim(-0.6, len(compared) - 0.4)
        axes.set_xlabel(
            f"test {_metric_words(decisive(card))}, %; a dot a seed, a line at the mean"
        )
        axes.grid(visible=False, axis="y")
    save_figure(axes.figure, path)
