"""What refusals mean, and how requests are named."""

import json

import pytest

from autoscaler.adapters.kubernetes.calls import Call, ForbiddenError, GoneError, NotFoundError, refusal
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, StaleViewError, TransientError

DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments", scalable=True)
PODS = Resource("v1", "Pod", "pods")
PATCH = DEPLOYMENTS.call("patch", "shop", "web", "scale")


@pytest.mark.parametrize(
    ("call", "path", "words", "rule"),
    [
        pytest.param(
            PATCH,
            "/apis/apps/v1/namespaces/shop/deployments/web/scale",
            "patch deployments.apps/scale web in namespace shop",
            'needed: a Role in namespace shop with {apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["patch"]}',
            id="subresource",
        ),
        pytest.param(
            PODS.call("list"),
            "/api/v1/pods",
            "list pods in all namespaces",
            'needed: a ClusterRole with {apiGroups: [""], resources: ["pods"], verbs: ["list"]}',
            id="core-everywhere",
        ),
        pytest.param(
            Call("get", "/apis/apps/v1"),
            "/apis/apps/v1",
            "get /apis/apps/v1",
            'needed: a ClusterRole with {nonResourceURLs: ["/apis/apps/v1"], verbs: ["get"]}',
            id="no-resource",
        ),
        pytest.param(
            DEPLOYMENTS.call("get", "a/b", "../c?d"),
            "/apis/apps/v1/namespaces/a%2Fb/deployments/..%2Fc%3Fd",
            "get deployments.apps ../c?d in namespace a/b",
            'needed: a Role in namespace a/b with {apiGroups: ["apps"], resources: ["deployments"], verbs: ["get"]}',
            id="names-lead-nowhere-else",
        ),
    ],
)
def test_call(call: Call, path: str, words: str, rule: str) -> None:
    assert (call.path, str(call), call.rule) == (path, words, rule)


@pytest.mark.parametrize("name", [".", ".."])
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(NotFoundError, match="is no name"):
        DEPLOYMENTS.call("get", name, "web")


@pytest.mark.parametrize(
    ("code", "body", "kind", "words"),
    [
        pytest.param(302, "", AnswerError, "a proxy or a login page", id="302"),
        pytest.param(400, {"reason": "BadRequest", "message": "why"}, PermanentError, "400 BadRequest: why", id="400"),
        pytest.param(401, {"reason": "Unauthorized"}, PermanentError, "renew the token or certificate", id="401"),
        pytest.param(403, {"reason": "Forbidden"}, ForbiddenError, 'verbs: ["patch"]', id="403"),
        pytest.param(404, {"reason": "NotFound", "message": 'deployments.apps "web" not found'}, NotFoundError, "not found", id="404"),
        pytest.param(404, "404 page not found\n", NotFoundError, "404 Not Found: 404 page not found", id="404-text"),
        pytest.param(408, "", TransientError, "408", id="408"),
        pytest.param(409, {"reason": "Conflict"}, StaleViewError, "409 Conflict", id="409"),
        pytest.param(410, {"reason": "Expired"}, GoneError, "410 Expired", id="410"),
        pytest.param(415, {"reason": "UnsupportedMediaType"}, PermanentError, "415", id="415"),
        pytest.param(
            422, {"reason": "Invalid", "details": {}, "message": "the server rejected our request"}, StaleViewError, "422", id="test"
        ),
        pytest.param(
            422,
            {"reason": "Invalid", "message": "must be at least 0", "details": {"causes": [{"reason": "FieldValueInvalid"}]}},
            PermanentError,
            "must be at least 0",
            id="422-impossible-value",
        ),
        pytest.param(429, "", TransientError, "429 Too Many Requests: no message", id="429"),
        pytest.param(500, "<html>\n  <p>oops", TransientError, "500 Internal Server Error: <html> <p>oops", id="500-html"),
        pytest.param(599, "", TransientError, "599 unknown status", id="599"),
        pytest.param(500, {"message": "x" * 1000}, TransientError, "x" * 300, id="words-are-bounded"),
    ],
)
def test_refusal(code: int, body: object, kind: type[AutoscalerError], words: str) -> None:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    error = refusal(PATCH, code, {}, raw)
    assert type(error) is kind
    assert str(error).startswith("patch deployments.apps/scale web in namespace shop: ")
    assert words in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    ("headers", "details", "expected"),
    [
        pytest.param({}, {}, None, id="none"),
        pytest.param({"Retry-After": "5"}, {}, 5.0, id="header"),
        pytest.param({"Retry-After": "5"}, {"retryAfterSeconds": 9}, 5.0, id="header-first"),
        pytest.param({}, {"retryAfterSeconds": 9}, 9.0, id="status"),
        pytest.param({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, None, id="a-date"),
        pytest.param({"Retry-After": "-5"}, {}, None, id="negative"),
        pytest.param({"Retry-After": "86400"}, {}, 60.0, id="a-day"),
        pytest.param({}, {"retryAfterSeconds": -1}, 0.0, id="negative-status"),
    ],
)
def test_retry_after(headers: dict[str, str], details: dict[str, object], expected: float | None) -> None:
    error = refusal(PATCH, 429, headers, json.dumps({"details": details}).encode())
    assert isinstance(error, TransientError)
    assert error.retry_after_s == expected
