"""Real files and a real watch; the manual clock for what only time does. A source that says nothing fails by pytest's time limit."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from autoscaler.clock import ManualClock
from autoscaler.errors import ConfigError
from autoscaler.policyfile.problems import PolicyFileError
from autoscaler.policyfile.reload import EXPAND_S, POLL_S, DirectoryPolicySource
from autoscaler.ports import PolicySet
from tests.policyfile.mount import Mount

Text = Callable[..., str]
Changes = AsyncGenerator[PolicySet | ConfigError, None]


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path / "policies")


def names(change: PolicySet | ConfigError) -> list[str]:
    assert isinstance(change, PolicySet)
    return [spec.workload.name for spec in change.specs]


def refusal(change: PolicySet | ConfigError) -> str:
    assert isinstance(change, PolicyFileError)
    return change.problems[0].text


async def after_polls(changes: Changes, clock: ManualClock) -> PolicySet | ConfigError:
    """The next news, while time passes."""
    news = asyncio.ensure_future(anext(changes))
    while not news.done():
        await clock.advance(POLL_S)
    return await news


async def test_updates_of_a_config_map(mount: Mount, policy_text: Text) -> None:
    mount.update(web=policy_text())
    source = DirectoryPolicySource([mount.path], ManualClock())
    assert names(await source.load()) == ["web"]
    async with aclosing(source.changes()) as changes:
        for name in ("web2", "web3", "web4"):
            mount.update(web=policy_text(name))
            assert names(await anext(changes)) == [name]


HEALTH = """
apiVersion: autoscaler.dev/v1alpha1
kind: HealthPolicy
metadata: {name: default, namespace: shop}
spec:
  notify: [alerts, SINK]
"""


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        pytest.param({"alerts", "pager"}, "pagr is no sink of the settings; did you mean pager?", id="misspelt"),
        pytest.param({"alerts"}, "pagr is no sink of the settings; the settings have: alerts", id="unknown"),
        pytest.param({"alerts", "pagr"}, "", id="known"),
        pytest.param(None, "", id="not-known-here"),
    ],
)
async def test_sinks_are_those_of_the_settings(mount: Mount, sinks: set[str] | None, said: str) -> None:
    mount.update(health=HEALTH.replace("SINK", "pagr"))
    source = DirectoryPolicySource([mount.path], ManualClock(), sinks)
    if not said:
        (spec,) = (await source.load()).health
        assert spec.sinks == ("alerts", "pagr")
        return
    with pytest.raises(PolicyFileError) as caught:
        await source.load()
    (problem,) = caught.value.problems
    assert (problem.line, problem.field, problem.text) == (6, "spec.notify[1]", said)


async def test_what_changed_between_load_and_watch_is_seen(mount: Mount, policy_text: Text) -> None:
    mount.update(web=policy_text())
    source = DirectoryPolicySource([mount.path], ManualClock())
    await source.load()
    mount.update(web=policy_text("web2"))
    async with aclosing(source.changes()) as changes:
        assert names(await anext(changes)) == ["web2"]


async def test_a_broken_update_is_told_and_a_good_one_taken(mount: Mount, policy_text: Text) -> None:
    mount.update(web=policy_text())
    source = DirectoryPolicySource([mount.path], ManualClock())
    await source.load()
    async with aclosing(source.changes()) as changes:
        mount.update(web=policy_text().replace("minReplicas: 2", "minReplicas: 200"))
        assert refusal(await anext(changes)) == "200 is above maxReplicas 20; expected at most that"
        mount.update(web=policy_text())
        assert names(await anext(changes)) == ["web"]


async def test_the_same_content_is_no_news(mount: Mount, policy_text: Text) -> None:
    mount.update(web=policy_text())
    clock = ManualClock()
    source = DirectoryPolicySource([mount.path], clock)
    await source.load()
    async with aclosing(source.changes()) as changes:
        mount.update(web=policy_text())
        (mount.path / "notes.txt").write_text("nothing to us")
        news = asyncio.ensure_future(anext(changes))
        for _ in range(20):
            await clock.advance(POLL_S)
        mount.update(web=policy_text("web2"))
        assert names(await news) == ["web2"]


async def test_poke_reads_again_even_if_nothing_changed(mount: Mount, policy_text: Text) -> None:
    mount.update(web=policy_text())
    source = DirectoryPolicySource([mount.path], ManualClock())
    await source.load()
    async with aclosing(source.changes()) as changes:
        source.poke()
        assert names(await anext(changes)) == ["web"]


async def test_polling_finds_what_no_watch_shows(tmp_path: Path, policy_text: Text) -> None:
    """The directory holds a link to a file elsewhere, as a subPath mount does in effect."""
    elsewhere, directory, clock = tmp_path / "elsewhere", tmp_path / "policies", ManualClock()
    elsewhere.mkdir()
    directory.mkdir()
    (elsewhere / "web.yaml").write_text(policy_text())
    (directory / "web.yaml").symlink_to(elsewhere / "web.yaml")
    source = DirectoryPolicySource([directory], clock)
    await source.load()
    async with aclosing(source.changes()) as changes:
        (elsewhere / "web.yaml").write_text(policy_text("web2"))
        assert names(await after_polls(changes, clock)) == ["web2"]


async def test_the_directory_may_go_and_come_back(mount: Mount, policy_text: Text) -> None:
    mount.update(web=policy_text())
    clock = ManualClock()
    source = DirectoryPolicySource([mount.path], clock)
    await source.load()
    async with aclosing(source.changes()) as changes:
        shutil.rmtree(mount.path)
        assert "No such file or directory" in refusal(await after_polls(changes, clock))
        again = Mount(mount.path)
        again.update(web=policy_text("web2"))
        assert names(await after_polls(changes, clock)) == ["web2"]


async def test_schedules_go_on(mount: Mount, policy_text: Text) -> None:
    clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
    mount.update(web=policy_text(spec="schedule: [{name: day, start: 0 8 * * *, end: 0 18 * * *, minReplicas: 5}]"))
    source = DirectoryPolicySource([mount.path], clock)
    first = (await source.load()).specs[0].schedule
    async with aclosing(source.changes()) as changes:
        news = asyncio.ensure_future(anext(changes))
        await clock.advance(2 * EXPAND_S)
        while not news.done():
            await clock.advance(POLL_S)
        change = await news
        assert isinstance(change, PolicySet)
        (spec,) = change.specs
        assert [row.start_s for row in first] == [datetime(2026, 6, day, 8, tzinfo=UTC).timestamp() for day in (1, 2)]
        assert [row.start_s for row in spec.schedule] == [datetime(2026, 6, day, 8, tzinfo=UTC).timestamp() for day in (2, 3)]


async def test_schedules_of_the_last_good_set_go_on_while_a_broken_one_is_remembered(mount: Mount, policy_text: Text) -> None:
    clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
    mount.update(web=policy_text(spec="schedule: [{name: day, start: 0 8 * * *, end: 0 18 * * *, minReplicas: 5}]"))
    source = DirectoryPolicySource([mount.path], clock)
    await source.load()
    async with aclosing(source.changes()) as changes:
        mount.update(web=policy_text().replace("minReplicas: 2", "minReplicas: 200"))
        broken = await anext(changes)
        await clock.advance(EXPAND_S)
        assert names(await after_polls(changes, clock)) == ["web"]
        assert await anext(changes) is broken


async def test_several_directories_and_files(tmp_path: Path, mount: Mount, policy_text: Text) -> None:
    mount.update(web=policy_text())
    single = tmp_path / "single.yaml"
    single.write_text(policy_text("api"))
    source = DirectoryPolicySource([mount.path, single], ManualClock())
    assert names(await source.load()) == ["web", "api"]
    async with aclosing(source.changes()) as changes:
        single.write_text(policy_text("api2"))
        assert names(await anext(changes)) == ["web", "api2"]


async def test_an_empty_directory_is_a_warning(mount: Mount, policy_text: Text) -> None:
    source = DirectoryPolicySource([mount.path], ManualClock())
    empty = await source.load()
    assert (empty.specs, empty.warnings) == ((), (f"no policy files (*.yaml, *.yml) in {mount.path}",))
    async with aclosing(source.changes()) as changes:
        mount.update(web=policy_text())
        assert names(await anext(changes)) == ["web"]


async def test_health_policies_come_with_the_others(mount: Mount, policy_text: Text) -> None:
    head = "apiVersion: autoscaler.dev/v1alpha1\nkind: HealthPolicy\nmetadata: {name: default, namespace: shop}\n"
    mount.update(web=policy_text(), health=f"{head}spec: {{}}\n")
    source = DirectoryPolicySource([mount.path], ManualClock())
    assert [spec.name for spec in (await source.load()).health] == ["default"]
    async with aclosing(source.changes()) as changes:
        mount.update(web=policy_text(), health=f"{head}spec: {{waits: {{oom: 5s}}}}\n")
        change = await anext(changes)
        assert isinstance(change, PolicySet)
        assert [spec.waits.oom_s for spec in change.health] == [5.0]


async def test_a_broken_start_raises(mount: Mount) -> None:
    mount.update(web="nothing: here")
    with pytest.raises(PolicyFileError, match="expected kind: ScalingPolicy"):
        await DirectoryPolicySource([mount.path], ManualClock()).load()


async def test_nothing_runs_on_after_the_end(mount: Mount, policy_text: Text) -> None:
    mount.update(web=policy_text())
    source = DirectoryPolicySource([mount.path], ManualClock())
    await source.load()
    before = asyncio.all_tasks()
    async with aclosing(source.changes()) as changes:
        source.poke()
        await anext(changes)
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before
