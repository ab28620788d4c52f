"""Sinks that are reached over HTTP, each behind the port Notifier: Alertmanager, a signed webhook, Slack, PagerDuty.

Nothing leaves but what :mod:`autoscaler.core.health.words` says, which is redacted. Requests are bounded in size and time, follow no
redirect, and are not repeated here: that is the queue's affair.
"""

from __future__ import annotations

from autoscaler.adapters.notify.alertmanager import Alertmanager
from autoscaler.adapters.notify.pagerduty import PagerDuty
from autoscaler.adapters.notify.slack import Slack
from autoscaler.adapters.notify.webhook import Webhook
from autoscaler.clock import Clock
from autoscaler.endpoints import AlertmanagerSink, AnySink, PagerDutySink, SlackSink
from autoscaler.ports import Notifier

SLACK_PACE_S = 1.0
"""Slack takes about one message a second from an incoming webhook."""


def notifier(name: str, sink: AnySink, clock: Clock) -> Notifier:
    """The sink that these settings describe."""
    if isinstance(sink, AlertmanagerSink):
        return Alertmanager(name, sink, clock)
    if isinstance(sink, PagerDutySink):
        return PagerDuty(name, sink, clock)
    if isinstance(sink, SlackSink):
        return Slack(name, sink, clock)
    return Webhook(name, sink, clock)


def pace_s(sink: AnySink) -> float:
    """What lies between two reports to it, at least."""
    return SLACK_PACE_S if isinstance(sink, SlackSink) else 0.0


def remind_s(sink: AnySink) -> float:
    """How often what is open must be said again; 0: never."""
    return sink.resend_s if isinstance(sink, AlertmanagerSink) else 0.0
