import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autoscaler.core.types import Workload
from autoscaler.policyfile.load import SIZE_MAX, load
from autoscaler.policyfile.problems import PolicyFileError

NOW_S = 1_800_000_000.0
Text = Callable[..., str]


def names(*paths: Path) -> list[str]:
    return [spec.workload.name for spec in load(paths, NOW_S).specs]


def told(*paths: Path) -> list[str]:
    with pytest.raises(PolicyFileError) as caught:
        load(paths, NOW_S)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return str(caught.value).splitlines()


def test_directory_is_its_yaml_files_sorted(tmp_path: Path, policy_text: Text) -> None:
    for name in ("b.yaml", "a.yml", "c.yaml"):
        (tmp_path / name).write_text(policy_text(name[0]))
    for ignored in (".hidden.yaml", "notes.txt", "a.yaml.bak", "a.json", "yaml"):
        (tmp_path / ignored).write_text("not: [a policy")
    (tmp_path / "below.yaml").mkdir()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "d.yaml").write_text("not: [a policy")
    assert names(tmp_path) == ["a", "b", "c"]


def test_config_map_is_each_key_once(tmp_path: Path, policy_text: Text) -> None:
    """As kubelet lays it out: links to a link to the directory of the current version."""
    version = tmp_path / "..2026_06_01_12_00_00.1234"
    version.mkdir()
    for name in ("api", "web"):
        (version / f"{name}.yaml").write_text(policy_text(name))
        (tmp_path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    (tmp_path / "..data").symlink_to(version.name)
    assert names(tmp_path) == ["api", "web"]


def test_one_file_may_hold_many(tmp_path: Path, policy_text: Text) -> None:
    file = tmp_path / "all.yaml"
    file.write_text("# the first\n---\n" + "---\n# another\n".join(policy_text(name) for name in ("c", "a", "b")) + "---\n")
    assert names(file) == ["c", "a", "b"]


def test_a_file_named_twice_is_read_once(tmp_path: Path, policy_text: Text) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(policy_text())
    assert names(file, tmp_path, file) == ["web"]


def test_any_name_will_do_for_a_file(tmp_path: Path, policy_text: Text) -> None:
    file = tmp_path / "policy.txt"
    file.write_text(policy_text())
    assert names(file) == ["web"]


def test_stdin(monkeypatch: pytest.MonkeyPatch, policy_text: Text) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(policy_text().encode())))
    assert load([Path("-")], NOW_S).specs[0].origin == "<stdin> (web)"


def test_empty_directory(tmp_path: Path) -> None:
    assert load([tmp_path], NOW_S).specs == ()


def test_mistakes_of_all_files_at_once_and_in_order(tmp_path: Path, policy_text: Text) -> None:
    (tmp_path / "b.yaml").write_text(policy_text("b").replace("maxReplicas: 20", "maxReplicas: 1"))
    (tmp_path / "a.yaml").write_text(policy_text("a", "wrong: 1").replace("minReplicas: 2", "minReplicas: two"))
    (tmp_path / "c.yaml").write_text("'")
    (tmp_path / "d.yaml").symlink_to("nowhere.yaml")
    (tmp_path / "e.yaml").symlink_to("e.yaml")
    (tmp_path / "f.yaml").write_text(policy_text("f"))
    assert [line.removeprefix(f"{tmp_path}/") for line in told(tmp_path)] == [
        'a.yaml:6:16: spec.minReplicas: expected a whole number, got the text "two"',
        (
            "a.yaml:13:3: spec.wrong: unknown field; known: scaleTargetRef, targets, minReplicas, maxReplicas, interval, "
            "metrics, policy, behavior, "
            "schedule, fallback, mode, coverage, objective, startup"
        ),
        "b.yaml:6:16: spec.minReplicas: 2 is above maxReplicas 1; expected at most that",
        "c.yaml:1:1: this quote is never closed",
        "d.yaml: cannot be read: No such file or directory",
        "e.yaml: cannot be read: Too many levels of symbolic links",
    ]


def test_two_files_for_one_workload(tmp_path: Path, policy_text: Text) -> None:
    (tmp_path / "a.yaml").write_text(policy_text())
    (tmp_path / "b.yaml").write_text(policy_text().replace("metadata: {name: web", "metadata: {name: other"))
    assert told(tmp_path) == [
        (
            f"{tmp_path}/b.yaml:5:19: spec.scaleTargetRef: Deployment shop/web already has a policy, at {tmp_path}/a.yaml:5:19; "
            "expected one for each workload"
        )
    ]


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        pytest.param(("apiVersion: apps/v1", "apiVersion: apps/v1beta2"), True, id="version"),
        pytest.param(("apiVersion: apps/v1", "kind: StatefulSet"), False, id="kind"),
        pytest.param(("apiVersion: apps/v1", "apiVersion: example.com/v1"), False, id="group"),
        pytest.param(("namespace: shop", "namespace: bank"), False, id="namespace"),
    ],
)
def test_what_one_workload_is(change: tuple[str, str], is_same: bool, tmp_path: Path, policy_text: Text) -> None:  # noqa: FBT001
    text = policy_text().replace("scaleTargetRef: {", "scaleTargetRef: {apiVersion: apps/v1, ")
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(text.replace("metadata: {name: web", "metadata: {name: other").replace(*change))
    if is_same:
        assert "already has a policy" in told(tmp_path)[0]
    else:
        assert len(names(tmp_path)) == 2


def test_one_name_in_two_files(tmp_path: Path, policy_text: Text) -> None:
    (tmp_path / "a.yaml").write_text(policy_text())
    (tmp_path / "b.yaml").write_text(policy_text("api").replace("metadata: {name: api", "metadata: {name: web"))
    assert told(tmp_path) == [
        (
            f"{tmp_path}/b.yaml:3:18: metadata.name: web is also the name of the policy at {tmp_path}/a.yaml:3:18; "
            "expected a name for each in shop"
        )
    ]


def test_missing_path(tmp_path: Path) -> None:
    assert told(tmp_path / "none") == [f"{tmp_path}/none: cannot be read: No such file or directory"]


def test_larger_than_a_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    with file.open("wb") as stream:
        stream.truncate(SIZE_MAX + 1)
    assert told(file) == [f"{file}: larger than 16 MiB; expected a policy file"]


def test_endless_file() -> None:
    assert told(Path("/dev/zero")) == ["/dev/zero: larger than 16 MiB; expected a policy file"]


def test_a_pipe_in_a_directory_is_no_file(tmp_path: Path, policy_text: Text) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "web.yaml").write_text(policy_text())
    assert names(tmp_path) == ["web"]


def test_deep_nesting_ends_soon(tmp_path: Path) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text("[" * 2_000_000)
    assert told(file) == [f"{file}:1:51: nested more than 50 levels deep"]


def test_two_thousand_policies(tmp_path: Path, policy_text: Text) -> None:
    file = tmp_path / "many.yaml"
    file.write_text("---\n".join(policy_text(f"w{number}") for number in range(2000)))
    specs = load([file], NOW_S).specs
    assert {spec.workload for spec in specs} == {Workload("shop", f"w{number}") for number in range(2000)}
    assert len({id(spec.policy.policy) for spec in specs}) == 1
