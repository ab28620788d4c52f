"""What is asked when pods are acted upon, and what the API server's answers mean; tests/cluster/test_pods.py does so on a real one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from autoscaler.adapters.kubernetes.calls import ForbiddenError
from autoscaler.adapters.kubernetes.pod_actions import KubernetesPodActions
from autoscaler.clock import FastClock
from autoscaler.core.health.remedies import Act
from autoscaler.errors import AutoscalerError, PermanentError, StaleViewError, TransientError
from tests.adapters.kubernetes.fault_server import FaultServer, Step, answer, page, reset, status
from tests.adapters.kubernetes.reflecting import client_of
from tests.adapters.kubernetes.ward import pod

PATH = "/api/v1/namespaces/shop/pods/web-1-a"
READ, DELETE, EVICT = f"GET {PATH}", f"DELETE {PATH}", f"POST {PATH}/eviction"
EVICTION = Act(True, "shop", "web-1-a", "uid-web-1-a", "7", "it crashes")
DELETION = Act(False, "shop", "web-1-a", "uid-web-1-a", "7", "it crashes")
DONE = answer({"kind": "Status", "status": "Success"}, 201)
PRECONDITIONS = {"uid": "uid-web-1-a", "resourceVersion": "7"}


@asynccontextmanager
async def acting(folder: Path, route: str, step: Step) -> AsyncIterator[tuple[KubernetesPodActions, FaultServer]]:
    async with FaultServer(FastClock(100.0)) as server, client_of(server, folder) as client:
        server.script(route, step)
        yield KubernetesPodActions(client), server


@pytest.mark.parametrize("dry_run", [pytest.param(True, id="dry-run"), pytest.param(False, id="for-good")])
async def test_an_eviction_is_of_just_that_pod_in_that_version(dry_run: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a column
    async with acting(tmp_path, EVICT, DONE) as (actions, server):
        await actions.remove(EVICTION, dry_run=dry_run)
    (seen,) = server.seen
    options = {"preconditions": PRECONDITIONS, **({"dryRun": ["All"]} if dry_run else {})}
    metadata = {"name": "web-1-a", "namespace": "shop"}
    assert seen.body == {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": options}
    assert seen.query == ({"dryRun": "All"} if dry_run else {})


@pytest.mark.parametrize("dry_run", [pytest.param(True, id="dry-run"), pytest.param(False, id="for-good")])
async def test_a_deletion_too_and_the_grace_period_is_the_pods_own(dry_run: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a column
    async with acting(tmp_path, DELETE, answer(pod("web-1-a", 8))) as (actions, server):
        await actions.remove(DELETION, dry_run=dry_run)
    (seen,) = server.seen
    assert seen.body == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": PRECONDITIONS,
        **({"dryRun": ["All"]} if dry_run else {}),
    }
    assert seen.query == ({"dryRun": "All"} if dry_run else {})


BUDGET = status(
    429,
    "TooManyRequests",
    "Cannot evict pod as it would violate the pod's disruption budget.",
    causes=[{"reason": "DisruptionBudget", "message": "The disruption budget web needs 2 healthy pods and has 2 currently"}],
)
SEVERAL = status(500, "InternalError", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")


@pytest.mark.parametrize("act", [pytest.param(EVICTION, id="eviction"), pytest.param(DELETION, id="deletion")])
@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        pytest.param(BUDGET, TransientError, "disruption budget web needs 2 healthy pods and has 2 currently", id="budget"),
        pytest.param(SEVERAL, TransientError, "more than one PodDisruptionBudget", id="several-budgets"),
        pytest.param(status(429, "TooManyRequests", "slow down"), TransientError, "slow down", id="throttled"),
        pytest.param(status(404, "NotFound", "pods not found"), StaleViewError, "it was there when it was last seen", id="gone"),
        pytest.param(status(409, "Conflict", "Precondition failed: UID"), StaleViewError, "Precondition failed: UID", id="another"),
        pytest.param(status(403, "Forbidden", "may not"), ForbiddenError, 'apiGroups: [""]', id="forbidden"),
        pytest.param(status(422, "Invalid", "no", causes=[{"reason": "FieldValueInvalid"}]), PermanentError, "Invalid", id="invalid"),
        pytest.param(page(502), TransientError, "502", id="proxy"),
        pytest.param(page(200), TransientError, "expected an API server's JSON", id="login-page"),
        pytest.param(reset(), TransientError, "no connection", id="reset"),
    ],
)
async def test_refusals(act: Act, step: Step, error: type[AutoscalerError], words: str, tmp_path: Path) -> None:
    async with acting(tmp_path, EVICT if act.eviction else DELETE, step) as (actions, server):
        with pytest.raises(error) as raised:
            await actions.remove(act, dry_run=False)
    assert words in str(raised.value)
    assert isinstance(raised.value, StaleViewError) == (error is StaleViewError)
    # A deletion whose connection breaks may be sent once more by the client, as HTTP lets it: uid and version keep it to that pod.
    assert len(server.seen) in ({1, 2} if words == "no connection" and not act.eviction else {1})


async def test_a_read_asks_for_no_version_so_no_cache_answers(tmp_path: Path) -> None:
    async with acting(tmp_path, READ, answer(pod("web-1-a", 8, restarts=3, ended=5.0))) as (actions, server):
        found = await actions.read("shop", "web-1-a")
    assert found is not None
    assert (found.uid, found.resource_version, found.containers[0].restarts) == ("uid-web-1-a", "8", 3)
    assert [dict(seen.query) for seen in server.seen] == [{}]


@pytest.mark.parametrize(
    ("step", "error"),
    [
        pytest.param(status(403, "Forbidden"), ForbiddenError, id="forbidden"),
        pytest.param(status(500, "InternalError"), TransientError, id="failing"),
        pytest.param(page(200), TransientError, id="login-page"),
    ],
)
async def test_a_read_that_fails_is_no_pod_that_is_gone(step: Step, error: type[AutoscalerError], tmp_path: Path) -> None:
    async with acting(tmp_path, READ, step) as (actions, _):
        with pytest.raises(error):
            await actions.read("shop", "web-1-a")
    async with acting(tmp_path, READ, status(404, "NotFound")) as (actions, _):
        assert await actions.read("shop", "web-1-a") is None
