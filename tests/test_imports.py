"""What is imported when, and by which names."""

from __future__ import annotations

import subprocess
import sys

import unstale

HEAVY = (
    *("pandas", "pyarrow", "matplotlib", "sklearn", "scipy", "typer", "rich", "safetensors", "hypothesis", "pytest"),
    *("datasets", "huggingface_hub", "PIL", "optuna"),
)


SCRIPT = """
import os, sys
for code in sys.argv[1:]:
    if (child := os.fork()) == 0:
        exec(code)
        print(*sorted(sys.modules), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def modules_after(*codes: str, first: str = "") -> list[set[str]]:
    """Names of the modules that an interpreter has after each of ``codes``, with nothing but ``first`` before it."""
    done = subprocess.run(
        [sys.executable, "-c", first + SCRIPT, *codes], capture_output=True, text=True, check=True
    )  # a fork each, for to import torch takes seconds
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_import_needs_torch_and_numpy_only() -> None:
    everything = "; ".join(
        f"unstale.{name}" for name in unstale.__all__ if name not in ("compare", "experiments", "replay", "tune")
    )
    both = modules_after("", f"import unstale; {everything}", first="import torch, numpy")
    before, after = ({name.partition(".")[0] for name in modules} for modules in both)
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
    (clocks,) = modules_after("import unstale.clocks")
    assert "torch" not in clocks
    rooms = {
        "unstale.methods": {"unstale.server", "unstale.clocks", "unstale.engines", "unstale.tasks"},
        "unstale.server": {"unstale.engines", "unstale.clocks", "unstale.tasks", "unstale.record"},
        "unstale.engines": {"unstale.experiments", "unstale.cli", "unstale.plots"},
    }
    loaded = modules_after(*(f"import {room}" for room in rooms), first="import torch")
    for (room, above), modules in zip(rooms.items(), loaded, strict=True):
        assert room in modules
        assert not above & modules, room


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
