"""A real node for tests, on top of tests/cluster/rig.

control_plane(folder) ── as there, with every controller that makes or ends pods, and a scheduler
Node(folder, plane) ──── containerd, runc and the kubelet: pods that are placed on it get real containers of busybox
Inbox() ──────────────── what people are told by webhook
"""

from tests.node.rig.inbox import Inbox
from tests.node.rig.node import NAME, Node, control_plane

__all__ = ["NAME", "Inbox", "Node", "control_plane"]
