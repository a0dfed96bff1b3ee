"""What is imported when, and by which names."""

from __future__ import annotations

import subprocess
import sys

import unstale

HEAVY = (
    *("pandas", "pyarrow", "matplotlib", "sklearn", "scipy", "typer", "rich", "safetensors", "hypothesis", "pytest"),
    *("datasets", "huggingface_hub", "PIL", "optuna"),
)


def modules_after(code: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter has after ``code``."""
    script = f"{code}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_import_needs_torch_and_numpy_only() -> None:
    before = modules_after("import torch, numpy")
    everything = "; ".join(
        f"unstale.{name}" for name in unstale.__all__ if name not in ("compare", "experiments", "replay", "tune")
    )
    after = modules_after(f"import torch, numpy, unstale; {everything}")
    assert after - before == {"unstale"}
    assert not after & set(HEAVY)


def test_public_names_exist_once_and_sorted() -> None:
    assert unstale.__all__ == sorted(unstale.__all__)
    for name in unstale.__all__:
        assert getattr(unstale, name) is not None
    assert set(unstale.__all__) <= set(dir(unstale))


def test_rooms_list_their_names() -> None:
    for room in (unstale.methods, unstale.clocks, unstale.tasks, unstale.schedules, unstale.testing):
        assert sorted(room.__all__) == sorted(set(room.__all__))
        for name in room.__all__:
            assert hasattr(room, name), f"{room.__name__}.{name}"


def test_imports_run_downwards_only() -> None:
    """methods knows nothing of servers, clocks or engines; clocks need numpy only; servers know no engine."""
    assert "torch" not in modules_after("import unstale.clocks")
    for room, above in {
        "unstale.methods": ("unstale.server", "unstale.clocks", "unstale.engines", "unstale.tasks"),
        "unstale.server": ("unstale.engines", "unstale.clocks", "unstale.tasks", "unstale.record"),
        "unstale.engines": ("unstale.experiments", "unstale.cli", "unstale.plots"),
    }.items():
        script = f"import {room}, sys; print(*sys.modules)"
        loaded = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
        assert not set(above) & set(loaded), room


def test_nothing_is_seeded_globally() -> None:
    script = (
        "import random, numpy, torch, unstale\n"
        "states = lambda: (random.getstate(), str(numpy.random.get_state()),\n"
        "    torch.get_rng_state().tolist(), torch.get_num_threads())\n"
        "before = states()\n"
        "unstale.train(unstale.tasks.quadratic(), 'dana_ga', 3, lr=0.01)\n"
        "assert states() == before"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
