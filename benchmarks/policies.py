"""How late and how dear policies are, on recorded loads: every task in a process of its own, or on a dask cluster.

Each task's rows are a file in the output directory, so that a run that was broken off goes on where it was (``--fresh`` starts over).
At the end all rows are in ``results.json``, ``report.html`` says what came of it, and ``figures.md`` has the README's tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from math import isfinite
from pathlib import Path
from typing import Any

from benchmarks.machine import origin
from benchmarks.matrix import HEADLINE, PRESETS, Task
from benchmarks.report import page_of
from benchmarks.summary import lines, markdown, summary
from benchmarks.task import execute

Row = dict[str, Any]


def pending(tasks: Iterable[Task], folder: Path) -> list[Task]:
    """The tasks that have no file yet: few variants before many draws of them, and else the longest first, as far as can be told."""
    left = [task for task in tasks if not _file(folder, task).exists()]
    return sorted(left, key=lambda task: (len(task.variants) > len(HEADLINE), -_size(task), task.name))


def _size(task: Task) -> int:
    return (TRACES_LONG.get(task.scene.trace, 1)) * len(task.variants)


TRACES_LONG = {"tweets_aapl_5min": 5, "nyc_taxi_30min": 3, "ms_purchases_small_1h": 3, "wikipedia_day_24s": 0}
"""Days in tens, by trace; what is not here has some ten days."""


def _file(folder: Path, task: Task) -> Path:
    return folder / "tasks" / f"{task.name}.json"


def keep(folder: Path, task: Task, rows: Sequence[Row], commit: str = "") -> None:
    """Write a task's rows, with the commit that made them, whole or not at all. JSON has no NaN: what is not known is null."""
    plain = [{name: None if isinstance(value, float) and not isfinite(value) else value for name, value in row.items()} for row in rows]
    plain = [{**row, "commit": commit} for row in plain]
    path = _file(folder, task)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(plain))
    part.rename(path)


def here(tasks: Sequence[Task], workers: int) -> Iterator[tuple[Task, list[Row]]]:
    """Run the tasks in so many processes; in this one if it is one."""
    if workers == 1:
        for task in tasks:
            yield task, execute(task)
        return
    with ProcessPoolExecutor(workers) as pool:
        futures = {pool.submit(execute, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()


def on_dask(tasks: Sequence[Task], address: str) -> Iterator[tuple[Task, list[Row]]]:
    """Run the tasks on the workers of a dask scheduler; they need this project installed or on their path."""
    from dask.distributed import Client
    from dask.distributed import as_completed as as_dask_completed

    with Client(address) as client:  # type: ignore[no-untyped-call]
        futures = {client.submit(execute, task, pure=False): task for task in tasks}
        for future in as_dask_completed(list(futures)):  # type: ignore[no-untyped-call]
            yield futures[future], future.result()


def collected(tasks: Iterable[Task], folder: Path) -> list[Row]:
    """The rows of all tasks that are there."""
    return [row for task in tasks if _file(folder, task).exists() for row in json.loads(_file(folder, task).read_text())]


def main(arguments: list[str]) -> None:
    """Read the command line, run what is missing, write the result."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.policies", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--preset", choices=tuple(PRESETS), default="headline", help="how much is run")
    parser.add_argument("--quick", action="store_const", const="quick", dest="preset", help="two minutes on two cores")
    parser.add_argument(
        "--out", type=Path, default=Path(".cache/bench-policies"), help="where files go; what is there already is not run again"
    )
    parser.add_argument("--fresh", action="store_true", help="run everything again")
    parser.add_argument("--only", default="", help="only tasks whose name contains this")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--dask", metavar="ADDRESS", help="a dask scheduler instead, such as tcp://127.0.0.1:8786")
    given = parser.parse_args(arguments)
    tasks = [task for task in PRESETS[given.preset]() if given.only in task.name]
    if given.fresh:
        for task in tasks:
            _file(given.out, task).unlink(missing_ok=True)
    left = pending(tasks, given.out)
    about = {**origin(), "preset": given.preset, "tasks": str(len(tasks))}
    made = on_dask(left, given.dask) if given.dask else here(left, given.workers)
    for task, rows in _shown(made, len(tasks), len(tasks) - len(left)):
        keep(given.out, task, rows, about["commit"])
    rows = collected(tasks, given.out)
    about["commits of the rows"] = ", ".join(sorted({row["commit"] for row in rows}))
    found = {"origin": about, "summary": summary(rows), "rows": rows}
    (given.out / "results.json").write_text(json.dumps(found))
    (given.out / "report.html").write_text(page_of(rows, about), encoding="utf-8")
    (given.out / "figures.md").write_text(markdown(rows), encoding="utf-8")
    print("\n".join(lines(rows)))
    print(f"wrote {given.out}/results.json, report.html and figures.md")


def _shown(made: Iterator[tuple[Task, list[Row]]], total: int, done: int) -> Iterator[tuple[Task, list[Row]]]:
    """The same with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from made
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as bar:
        line = bar.add_task("tasks", total=total, completed=done)
        for task, rows in made:
            bar.update(line, advance=1, description=task.name)
            yield task, rows


if __name__ == "__main__":
    main(sys.argv[1:])
