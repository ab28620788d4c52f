"""Who else scales a target, and who has set its count, from what an API server answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from autoscaler.adapters.kubernetes.conflicts import TRIES
from autoscaler.adapters.kubernetes.ownership import Managed, entries_of_replicas, owner_of
from autoscaler.core.types import Target
from autoscaler.ports import Owner, Rival
from tests.adapters.kubernetes.fault_server import Feed, Json, Step, discovery, listing, status, stream, thing
from tests.adapters.kubernetes.following import WEB, deployment, following

KINDS = {"Deployment": "deployments", "HorizontalPodAutoscaler": "horizontalpodautoscalers"}
BOTH = {**KINDS, "ScaledObject": "scaledobjects"}
SILENT = stream(then="silence")


def by_kind(**steps: Step) -> Step:
    """The step of the plural that a request is about."""

    async def step(request: web.Request) -> web.StreamResponse:
        return await steps[request.path.rpartition("/")[2]](request)

    return step


def autoscaler(name: str, target: str = "web", desired: int | None = None, version: int = 5, **reference: str) -> Json:
    counts: Json = {} if desired is None else {"status": {"desiredReplicas": desired}}
    return thing(name, version, spec={"scaleTargetRef": {"name": target, **reference}}, **counts)


def lists(hpas: Step, scaled_objects: Step | None = None) -> Step:
    return by_kind(deployments=listing("9", deployment(5)), horizontalpodautoscalers=hpas, scaledobjects=scaled_objects or listing("9"))


@pytest.mark.parametrize(
    ("hpas", "scaled_objects", "rival"),
    [
        pytest.param([], [], None, id="nobody"),
        pytest.param([autoscaler("a", desired=7)], [], Rival("HorizontalPodAutoscaler", "a", 7.0), id="an-hpa"),
        pytest.param(
            [autoscaler("a", kind="Deployment", apiVersion="apps/v1beta1", desired=7)],
            [],
            Rival("HorizontalPodAutoscaler", "a", 7.0),
            id="another-version-of-the-kind",
        ),
        pytest.param([autoscaler("a", "other")], [], None, id="of-another"),
        pytest.param([autoscaler("a", kind="StatefulSet")], [], None, id="of-another-kind"),
        pytest.param([autoscaler("a", apiVersion="example.dev/v1")], [], None, id="of-another-group"),
        pytest.param([thing("a", 5)], [], None, id="of-nothing"),
        pytest.param(
            [autoscaler("keda-hpa-b", desired=3)], [autoscaler("b")], Rival("ScaledObject", "b", 3.0), id="a-scaled-object-and-its-hpa"
        ),
    ],
)
async def test_who_else_scales_it(hpas: list[Json], scaled_objects: list[Json], rival: Rival | None, tmp_path: Path) -> None:
    async with following(
        tmp_path, [WEB], list=lists(listing("9", *hpas), listing("9", *scaled_objects)), watch=SILENT, discovery=discovery(**BOTH)
    ) as rig:
        seen = await rig.seen(WEB)
        assert repr(seen.rival) == repr(rival)
        assert rig.cluster.facts(WEB) is seen, "the same facts until something changes"


async def test_it_comes_changes_and_goes(tmp_path: Path) -> None:
    feed = Feed()
    watch = by_kind(deployments=SILENT, horizontalpodautoscalers=feed.step, scaledobjects=SILENT)
    async with following(tmp_path, [WEB], list=lists(listing("9")), watch=watch, discovery=discovery(**BOTH)) as rig:
        assert (await rig.seen(WEB)).rival is None
        feed.send("ADDED", autoscaler("a", desired=7, version=10))
        await rig.until(lambda: rig.cluster.facts(WEB).rival == Rival("HorizontalPodAutoscaler", "a", 7.0))
        feed.send("MODIFIED", autoscaler("a", desired=9, version=11))
        await rig.until(lambda: rig.cluster.facts(WEB).rival == Rival("HorizontalPodAutoscaler", "a", 9.0))
        feed.send("MODIFIED", autoscaler("a", "other", version=12))
        await rig.until(lambda: rig.cluster.facts(WEB).rival is None)
        feed.send("MODIFIED", autoscaler("a", desired=9, version=13))
        await rig.until(lambda: rig.cluster.facts(WEB).rival is not None)
        feed.send("DELETED", autoscaler("a", version=14))
        await rig.until(lambda: rig.cluster.facts(WEB).rival is None)


async def test_nothing_is_said_of_a_target_before_it_is_known_who_else_scales_it(tmp_path: Path) -> None:
    hold = status(503, message="not yet")
    async with following(tmp_path, [WEB], list=lists(hold), watch=SILENT, discovery=discovery(**KINDS)) as rig:
        await rig.until(lambda: "HPA" in rig.cluster.facts(WEB).problem)
        assert rig.cluster.facts(WEB).state is Target.UNKNOWN
        rig.server.script("list", lists(listing("9", autoscaler("a", desired=2))))
        assert (await rig.seen(WEB)).rival == Rival("HorizontalPodAutoscaler", "a", 2.0)


async def test_where_it_may_not_be_asked_it_is_said_once_and_targets_are_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    forbidden = status(403, "Forbidden", "cannot list horizontalpodautoscalers")
    async with following(tmp_path, [WEB], list=lists(forbidden), watch=SILENT, discovery=discovery(**KINDS)) as rig:
        assert (await rig.seen(WEB)).rival is None
        asked = sum("horizontalpodautoscalers" in seen.path for seen in rig.server.of("list"))
        assert asked >= TRIES
        await rig.until(lambda: sum("horizontalpodautoscalers" in seen.path for seen in rig.server.of("list")) > asked)
    told = [line for line in caplog.messages if "is not known" in line]
    assert len(told) == 1
    assert 'resources: ["horizontalpodautoscalers"]' in told[0]


def entry(manager: str, operation: str = "Update", subresource: str = "", time: str = "", fields: Mapping[str, Any] | None = None) -> Json:
    """As in managedFields; absent is empty."""
    given = {"manager": manager, "operation": operation, "subresource": subresource, "time": time}
    return {
        **{key: value for key, value in given.items() if value},
        "fieldsV1": {"f:spec": {"f:replicas": {}}} if fields is None else fields,
    }


LATER, EARLIER = "2026-11-24T09:00:00Z", "2026-11-24T08:00:00Z"


@pytest.mark.parametrize(
    ("entries", "owner"),
    [
        pytest.param([], None, id="nobody"),
        pytest.param([entry("helm", fields={"f:spec": {"f:template": {}}})], None, id="nobody-of-the-replicas"),
        pytest.param([entry("helm", fields={"f:spec": "odd"})], None, id="odd-fields"),
        pytest.param([entry("autoscaler", subresource="scale")], Owner("autoscaler", ours=True, how="Update through /scale"), id="we"),
        pytest.param(
            [entry("autoscaler", subresource="scale"), entry("argocd", "Apply", time=EARLIER)],
            Owner("argocd", ours=False, how=f"Apply, {EARLIER}"),
            id="an-applier-beside-us",
        ),
        pytest.param(
            [entry("flux", "Apply", time=EARLIER), entry("argocd", "Apply", time=LATER)],
            Owner("argocd", ours=False, how=f"Apply, {LATER}"),
            id="the-later-of-two",
        ),
    ],
)
def test_who_has_set_the_count(entries: list[Json], owner: Owner | None) -> None:
    managed = msgspec.convert({"metadata": {"managedFields": entries}}, Managed)
    assert owner_of(entries_of_replicas(managed)) == owner
