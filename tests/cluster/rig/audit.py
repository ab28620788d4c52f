"""The API server's own record of what a service account asked of it: the witness of every write."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

POLICY: Json = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Request", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request that was answered, with the body that came with it."""

    verb: str
    resource: str
    name: str
    status: int
    body: Any


class Audit:
    """What service accounts have asked of an API server that was started with `flags`.

    A watch is in it once it has ended, and nothing that a killed server had not answered.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` gets the policy and the record."""
        self._record = folder / "audit.log"
        self._policy = folder / "audit-policy.json"

    @property
    def flags(self) -> list[str]:
        """What the API server's command line needs; writes the policy that it names."""
        self._policy.parent.mkdir(parents=True, exist_ok=True)
        self._policy.write_text(json.dumps(POLICY))
        return [f"--audit-policy-file={self._policy}", f"--audit-log-path={self._record}"]

    def requests(self, namespace: str) -> list[Request]:
        """All that service accounts of that namespace have asked, oldest first."""
        who = f"system:serviceaccount:{namespace}:"
        entries = [json.loads(line) for line in self._record.read_text().splitlines() if line.endswith("}") and who in line]
        mine = [entry for entry in entries if entry["user"]["username"].startswith(who)]
        return [_request(entry) for entry in sorted(mine, key=lambda entry: str(entry["requestReceivedTimestamp"]))]

    def written(self, namespace: str, name: str) -> list[int]:
        """The counts that service accounts of that namespace have set there through /scale, oldest first."""
        patches = [each for each in self.requests(namespace) if each.verb == "patch" and each.resource.endswith("/scale")]
        return [each.body[-1]["value"] for each in patches if each.name == name and each.status == 200]


def _request(entry: Json) -> Request:
    about = entry.get("objectRef", {})
    resource = "/".join(filter(None, (about.get("resource", ""), about.get("subresource", ""))))
    status = entry.get("responseStatus", {}).get("code", 0)
    return Request(entry["verb"], resource, about.get("name", ""), status, entry.get("requestObject"))
