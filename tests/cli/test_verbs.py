"""The command line as users and their scripts meet it: the real program, its streams, its exit codes."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from autoscaler import __version__
from autoscaler.cli import VERBS, app

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
BROKEN = ROOT / "tests" / "policyfile" / "broken"
PROGRAM = [sys.executable, "-m", "autoscaler"]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the program in an empty directory; never with the environment of who runs the tests."""

    def run(
        *arguments: object, stdin: str | None = None, program: Sequence[str] = PROGRAM, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return subprocess.run(
            [*program, *map(str, arguments)],
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": str(ROOT), **environ},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )

    return run


def unboxed(text: str) -> str:
    """Without the frame and the line breaks that typer puts around its words."""
    return " ".join(text.replace("│", " ").split())


def test_valid_files_are_a_table_on_stdout_and_words_on_stderr(run: Run) -> None:
    done = run("validate", EXAMPLES / "threshold.yaml", EXAMPLES / "paused.yaml")
    assert done.stdout.splitlines() == [
        "NAMESPACE   WORKLOAD          POLICY          INTERVAL   MIN   MAX   MODE     FROM",
        f"shop        Deployment/web    threshold       15s        2     60    active   {EXAMPLES}/threshold.yaml (web)",
        f"shop        Deployment/mail   movingAverage   15s        1     10    paused   {EXAMPLES}/paused.yaml (mail)",
    ]
    assert (done.stderr, done.returncode) == ("2 policies are valid\n", 0)


def test_a_directory(run: Run) -> None:
    done = run("validate", EXAMPLES)
    scaling, health = done.stdout.split("\n\n")
    assert len([*scaling.splitlines()[1:], *health.splitlines()[1:]]) == len(list(EXAMPLES.glob("*.yaml")))
    assert done.returncode == 0


def test_json(run: Run) -> None:
    done = run("validate", "-o", "json", EXAMPLES / "threshold.yaml")
    assert json.loads(done.stdout) == {
        "valid": True,
        "errors": [],
        "warnings": [],
        "workloads": [
            {
                "namespace": "shop",
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": "web",
                "metrics": ["requests"],
                "policy": {
                    "type": "threshold",
                    "high": 1.1,
                    "low": 0.85,
                    "upFor": "1m",
                    "downFor": "5m",
                    "up": "target",
                    "upStep": 1,
                    "upPercent": 50.0,
                    "down": "target",
                    "downStep": 1,
                    "downPercent": 20.0,
                },
                "interval": "15s",
                "minReplicas": 2,
                "maxReplicas": 60,
                "mode": "active",
                "from": f"{EXAMPLES}/threshold.yaml (web)",
            }
        ],
        "health": [],
    }


def test_health_policies_are_a_table_of_their_own(run: Run) -> None:
    done = run("validate", EXAMPLES / "health.yaml", EXAMPLES / "health-batch.yaml")
    rows = [line.replace(f"{EXAMPLES}/health", "") for line in done.stdout.splitlines()]
    assert rows == [
        "NAMESPACE   HEALTH POLICY   SELECTOR     ACTS ON                                            NOTIFY         FROM",
        "shop        default         (all)        crashLoop (restart), wedgedStatefulSet (restart)   alertmanager   .yaml (default)",
        "shop        batch           tier=batch   (reports only)                                     -              -batch.yaml (batch)",
    ]
    assert (done.stderr, done.returncode) == ("2 policies are valid\n", 0)


def test_health_policy_as_json(run: Run) -> None:
    done = run("validate", "-o", "json", EXAMPLES / "health-batch.yaml")
    (policy,) = json.loads(done.stdout)["health"]
    assert policy["selector"] == "tier=batch"
    assert {name: policy["waits"][name] for name in ("unready", "unschedulable", "imagePull", "restarts")} == {
        "unready": "1h",
        "unschedulable": "30m",
        "imagePull": "2m",
        "restarts": 3,
    }


def test_mistakes_as_json(run: Run) -> None:
    done = run("validate", "--output", "json", BROKEN / "min-above-max.yaml", "none.yaml")
    assert json.loads(done.stdout) == {
        "valid": False,
        "errors": [
            {
                "file": f"{BROKEN}/min-above-max.yaml",
                "line": 6,
                "column": 16,
                "field": "spec.minReplicas",
                "message": "30 is above maxReplicas 20; expected at most that",
            },
            {"file": "none.yaml", "line": None, "column": None, "field": None, "message": "cannot be read: No such file or directory"},
        ],
        "warnings": [],
        "workloads": [],
        "health": [],
    }
    assert (done.stderr, done.returncode) == ("error: 2 mistakes in 2 files\n", 3)


def test_a_directory_of_broken_files(run: Run) -> None:
    """Each as it is told alone, none hides another, and no traceback."""
    done = run("validate", BROKEN)
    assert (done.stdout, done.returncode) == ("", 3)
    assert "Traceback" not in done.stderr
    *problems, summary = done.stderr.splitlines()
    assert {re.match(r".*/(.+\.yaml):\d+:\d+: ", line)[1] for line in problems} == {file.name for file in BROKEN.glob("*.yaml")}  # type: ignore[index]
    assert summary == f"error: {len(problems)} mistakes in {len(list(BROKEN.glob('*.yaml')))} files"


def test_warnings(run: Run, tmp_path: Path) -> None:
    text = (EXAMPLES / "threshold.yaml").read_text().replace("[1m]", "[10m]")
    (tmp_path / "web.yaml").write_text(text)
    done = run("validate", "web.yaml")
    assert done.stderr.splitlines() == [
        "warning: web.yaml:13:27: spec.metrics[0].prometheus.query: looks back 10m, so replicas follow the load late; 5m or less is better",
        "1 policy is valid",
    ]
    assert done.returncode == 0
    assert len(json.loads(run("validate", "web.yaml", "-o", "json").stdout)["warnings"]) == 1


def test_stdin(run: Run) -> None:
    done = run("validate", "-", stdin=(EXAMPLES / "threshold.yaml").read_text())
    assert "<stdin> (web)" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param([], 2, "Missing argument", id="no-path"),
        pytest.param(["--nonsense", "x"], 2, "No such option: --nonsense", id="option"),
        pytest.param(["-o", "xml", "x"], 2, "'xml' is not one of 'table', 'json'", id="format"),
        pytest.param(["none.yaml"], 3, "none.yaml: cannot be read: No such file or directory", id="missing"),
        pytest.param(["/proc/self/mem"], 3, "/proc/self/mem: cannot be read: Input/output error", id="unreadable"),
        pytest.param(["/usr/bin/env"], 3, "is not UTF-8", id="program"),
        pytest.param(["."], 3, "error: no policy files (*.yaml, *.yml) in .", id="empty-directory"),
        pytest.param(["--policy-path", "none", "x.yaml"], 3, "error: policy path none: no such directory", id="policy-path"),
        pytest.param(["x" * 300], 3, "cannot be read: File name too long", id="long-name"),
    ],
)
def test_what_cannot_be_validated(arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["validate", *arguments])
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in unboxed(done.stderr)
    assert "Traceback" not in done.stderr


def test_a_file_of_somebody_else(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("")
    secret.chmod(0)
    as_anybody = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []  # root may read everything
    done = run("validate", secret, program=[*as_anybody, *PROGRAM])
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, f"{secret}: cannot be read: Permission denied")


def test_own_policy(run: Run) -> None:
    own = EXAMPLES / "own-policy"
    done = run("validate", "--policy-path", own, own)
    assert (done.returncode, "spare:Spare" in done.stdout) == (0, True)
    done = run("validate", own)
    assert "policy spare:Spare: no module spare; install it, or name its directory as a policy path" in done.stderr
    assert done.returncode == 3


def test_a_policy_that_fails_is_no_traceback(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('noise')\nraise RuntimeError('not today')\n")
    (tmp_path / "web.yaml").write_text((EXAMPLES / "dry-run.yaml").read_text().replace("type: threshold", "type: 'mine:Mine'"))
    done = run("validate", "--policy-path", ".", "web.yaml")
    assert f"cannot import module mine: RuntimeError: not today ({tmp_path}/mine.py:2)" in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.returncode == 3


def test_version(run: Run) -> None:
    assert re.fullmatch(rf"autoscaler {re.escape(__version__)} \(Python 3\.\d+\.\d+\S*\)\n", run("version").stdout)
    assert json.loads(run("version", "-o", "json").stdout)["version"] == __version__


def test_schema(run: Run) -> None:
    done = run("schema")
    schema = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(run("schema", "policy").stdout) == schema
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_reader_that_has_enough(run: Run) -> None:
    script = f"{sys.executable} -m autoscaler schema | head -1; echo ${{PIPESTATUS[0]}} >&2"
    done = run("-c", script, program=["bash"])
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("arguments", [pytest.param(["--help"], id="long"), pytest.param(["-h"], id="short"), pytest.param([], id="none")])
def test_help_names_every_verb(arguments: list[str], run: Run) -> None:
    done = run(*arguments)
    text = done.stdout + done.stderr
    assert [verb for verb in VERBS if not re.search(rf"^\W*{verb} ", text, re.MULTILINE)] == []
    assert "Exit codes: 0 ok, 1 failed, 2 usage, 3 invalid configuration." in text


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb: str, run: Run) -> None:
    done = run(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: python -m autoscaler {verb}" in done.stdout


def test_a_misspelt_verb(run: Run) -> None:
    done = run("validte")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean 'validate'?" in unboxed(done.stderr)


def test_as_a_plugin_of_kubectl(run: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-loadscale"
    plugin.write_text(f"#!{sys.executable}\nfrom autoscaler.cli import main\nmain()\n")
    plugin.chmod(0o755)
    assert "Usage: kubectl loadscale validate" in run("validate", "--help", program=[str(plugin)]).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, run: Run) -> None:
    program = "import sys; sys.argv[0] = 'autoscaler'; from autoscaler.cli import main; main()"
    done = run(
        "-c",
        program,
        program=[sys.executable],
        _AUTOSCALER_COMPLETE=f"complete_{shell}",
        COMP_WORDS="autoscaler v",
        COMP_CWORD="1",
        _TYPER_COMPLETE_ARGS="autoscaler v",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert {"validate", "version"} <= set(re.findall(r"[a-z]+", done.stdout))
    assert "schema" not in done.stdout.split()


HEAVY = ("kubernetes", "aiohttp", "prometheus_api_client", "matplotlib", "dask")


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        pytest.param(["--help"], (*HEAVY, "numpy", "pydantic"), id="help"),
        pytest.param(["version"], (*HEAVY, "numpy"), id="version"),
        pytest.param(["validate", str(EXAMPLES)], HEAVY, id="validate"),
        pytest.param(["schema"], HEAVY, id="schema"),
    ],
)
def test_verbs_import_only_what_they_need(arguments: list[str], absent: tuple[str, ...], run: Run) -> None:
    program = "import atexit, sys; atexit.register(lambda: print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr))\n"
    program += f"sys.argv = ['autoscaler', *{arguments!r}]\nfrom autoscaler.cli import main\nmain()"
    done = run("-c", program, program=[sys.executable])
    assert done.returncode == 0
    assert set(absent) & set(done.stderr.splitlines()[-1].split()) == set()


def on_a_terminal(*arguments: str, **environ: str) -> str:
    """What the program prints on a terminal."""
    main, side = pty.openpty()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=side, stderr=side, cwd=ROOT, env={**kept, "TERM": "xterm-256color", **environ}
    )
    os.close(side)
    text = b""
    try:
        while chunk := os.read(main, 65536):
            text += chunk
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(main)
    process.wait()
    return text.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*[3-9][0-9]m|\x1b\[1;3\dm")


@pytest.mark.parametrize("arguments", [pytest.param(["--help"], id="help"), pytest.param(["nonsense"], id="error")])
def test_colour_is_for_terminals_that_want_it(arguments: list[str], run: Run) -> None:
    assert COLOUR.search(on_a_terminal(*arguments))
    assert not COLOUR.search(on_a_terminal(*arguments, NO_COLOR="1"))
    done = run(*arguments)
    assert "\x1b" not in done.stdout + done.stderr
