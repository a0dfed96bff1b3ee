from __future__ import annotations

import pytest

from unstale import methods
from unstale.errors import ArgumentError, UnknownNameError
from unstale.experiments import PAPER, Order, Trial, paper, presets
from unstale.experiments.differences import differences
from unstale.schedules import Recipe

TRAINED = [name for name in presets.NAMES if name != "table1"]
FIELDS = {
    "task",
    "model",
    "batch_size",
    "lr",
    "warmup",
    "decay",
    "weight_decay",
    "clock",
    "baseline",
    "methods",
    "workers",
}


@pytest.mark.parametrize("name", presets.NAMES)
def test_every_value_has_its_evidence(name: str) -> None:
    preset = presets.get(name)
    assert set(preset.scales) >= {"paper"}
    assert {value.evidence for value in preset.paper.values()} <= set(presets.EVIDENCE)
    if name in TRAINED:
        assert set(preset.paper) >= FIELDS
        assert "epochs" in preset.paper or "steps" in preset.paper


@pytest.mark.parametrize("name", ["table3", "table4", "table5", "table6"])
def test_methods_workers_and_baseline_are_the_tables(name: str) -> None:
    preset = presets.get(name)
    assert preset.table is not None
    rows = paper.table(preset.table)
    assert preset.paper["methods"].value == list(PAPER)
    assert preset.paper["workers"].value == sorted(set(rows["workers"].tolist()))
    assert preset.paper["baseline"].value == rows["baseline_accuracy"].iloc[0]
    assert (preset.paper["task"].value, preset.paper["model"].value) == (rows["dataset"].iloc[0], rows["model"].iloc[0])


# methods.md, section 3: batch, η, decays, epochs.
@pytest.mark.parametrize(
    ("name", "batch", "lr", "factor", "at", "epochs", "decay"),
    [
        ("table3", 256, 0.1, 0.1, (30, 60), 90, 1e-4),
        ("table4", 128, 0.1, 0.1, (80, 120), 160, 5e-4),
        ("table5", 128, 0.1, 0.2, (60, 120, 160), 200, 5e-4),
        ("table6", 128, 0.1, 0.2, (60, 120, 160), 200, 5e-4),
        ("figure-c8", 128, 0.1, 0.2, (60, 120, 160), 200, 5e-4),
    ],
)
def test_the_published_workloads(
    name: str, batch: int, lr: float, factor: float, at: tuple[int, ...], epochs: int, decay: float
) -> None:
    given = presets.get(name).workload("paper")
    assert (given["batch_size"], given["lr"], given["decay_factor"]) == (batch, lr, factor)
    assert [share * epochs for share in given["decay_at"]] == pytest.approx(list(at))
    assert given["warmup"] * epochs == pytest.approx(5)
    assert (given["epochs"], given["weight_decay"]) == (epochs, decay)
    assert all(methods.catalogue()[m].defaults.get("momentum", given["momentum"]) == given["momentum"] for m in PAPER)


def test_what_differs_is_computed() -> None:
    preset = presets.get("table4")
    assert differences(preset, preset.workload("paper")) == []
    assert differences(preset, preset.workload("digits")) == [
        "task: digits here, cifar10 in the paper [P]",
        "model: resnet8 here, resnet20 in the paper [P]",
        "epochs: 30 here, 160 in the paper [A]",
        "batch_size: 32 here, 128 in the paper [A]",
    ]
    changed = {**preset.workload("paper"), "decay_at": [0.25]}
    assert differences(preset, changed) == [
        "decay_at: 25% of the training here, 50%, 75% of the training in the paper [A]"
    ]


def test_what_only_the_task_knows_is_told_too() -> None:
    """Augmentation, streams, and what the small model has instead of the options that the preset leaves out."""
    lines = {}
    for name, scale in (("table4", "digits"), ("table6", "digits"), ("table2", "text")):
        order = Order.of(name, scale)
        lines[name] = differences(order.preset, order.workload, order.specification().task.describe())
    assert "augmentation: none here, pad, crop and mirror in the paper [M]" in lines["table4"]
    assert "train_size: 6000 here, all in the paper" in lines["table6"]
    assert "width: 128 here, the model's own in the paper" in lines["table6"]
    assert "streams: 64 here, 1 in the paper [A]" in lines["table2"]
    assert "length: 4 epochs here, 200,000 steps in the paper [A]" in lines["table2"]
    told = [line for line in lines["table2"] if line.split(":")[0] in ("target", "memory", "dropout")]
    assert told == [
        "target: 32 here, 150 in the paper [A]",
        "memory: 32 here, 150 in the paper [A]",
        "dropout: 0.0 here, 0.1 in the paper [A]",
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"type": "PadCropFlip", "padding": 4}, []),
        (
            {"type": "RandomResizedCropFlip"},
            ["augmentation: resized random crop and mirror here, pad, crop and mirror in the paper [M]"],
        ),
        ("somebody.elses", ["augmentation: somebody.elses here, pad, crop and mirror in the paper [M]"]),
    ],
)
def test_at_the_papers_size_only_what_the_task_does_otherwise_differs(change: object, line: list[str]) -> None:
    order = Order.of("table4", "paper", task_options={"root": "/data/cifar10"}, device="cuda")
    assert differences(order.preset, order.workload, {"name": "cifar10", "augment": change}) == line


def test_momentum_reaches_every_method_that_has_one() -> None:
    made = Order.of("table4", "digits", momentum=0.5, methods=["asgd", "ga", "dana_ga(momentum=0.7)"]).specification()
    told = {
        label: made.plan(Trial(label, 4, 0)).describe()["method"]["update"].get("momentum")  # type: ignore[index,union-attr,call-overload]
        for label in ("asgd", "ga", "dana_ga(momentum=0.7)", "nag_asgd", "sync")
    }
    assert told == {"asgd": None, "ga": 0.5, "dana_ga(momentum=0.7)": 0.7, "nag_asgd": 0.5, "sync": 0.5}
    preset = presets.get("table4")
    assert differences(preset, {**preset.workload("paper"), "momentum": 0.5}) == [
        "momentum: 0.5 here, 0.9 in the paper [M]"
    ]
    with pytest.raises(ArgumentError, match="momentum must be"):
        Order.of("table4", "digits", momentum=1.5).specification()


def test_a_comparison_with_another_baseline_is_another_comparison() -> None:
    """Also where none of the compared methods has a momentum."""
    usual = Order.of("table4", "digits", methods=["asgd"]).specification().describe()
    changed = Order.of("table4", "digits", methods=["asgd"], momentum=0.5).specification().describe()
    assert usual != changed
    assert "compared_with" not in usual


@pytest.mark.parametrize(("name", "scale"), [(n, s) for n in TRAINED if n != "table2" for s in ("digits",)])
def test_the_small_scales_can_run(name: str, scale: str) -> None:
    made = Order.of(name, scale).specification()
    rate = made.settings["lr"]
    assert isinstance(rate, Recipe)
    assert rate.at == tuple(presets.get(name).workload(scale)["decay_at"])
    assert made.settings["weight_decay"] == presets.get(name).workload(scale)["weight_decay"]


def test_changes_come_last_and_options_add_up() -> None:
    order = Order.of("table4", "digits", epochs=1, task_options={"width": 2}, workers=[3], seeds=None)
    assert (order.workload["epochs"], order.workload["task_options"]) == (1, {"width": 2})
    assert order.specification().workers == (3,)
    assert len(order.specification().seeds) == 5


def test_what_is_missing_is_named() -> None:
    order = Order.of("table4", "digits", task="cifar1000")
    with pytest.raises(ArgumentError, match="table4 at scale digits cannot run: unknown task 'cifar1000'"):
        order.specification()
    order = Order.of("table4", "digits", flux_capacitor=1.21)
    with pytest.raises(ArgumentError, match="needs the setting 'flux_capacitor', which this version"):
        order.specification()
    with pytest.raises(UnknownNameError, match="unknown scale of table4 'text'"):
        Order.of("table4", "text")
    with pytest.raises(UnknownNameError, match="unknown table or figure 'table7'"):
        Order.of("table7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "must be TOML"),
        ("title = 'x'", "a \\[paper\\] of values"),
        ("title = 'x'\n[paper]\nlr = 0.1", "of values with evidence"),
        ("title = 'x'\n[paper]\nlr = [0.1, 'X']", "lr must have evidence among A, T"),
        ("title = 'x'\nkind = 'table'\n[paper]\nlr = [0.1, 'A']\n[moon]\nlr = 1", "got moon"),
        ("title = 'x'\nkind = 'table'\n[paper]\nwarmup = [5, 'A']", "warmup is in epochs"),
    ],
)
def test_a_file_that_is_no_preset(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        presets.parse("table9", text)
