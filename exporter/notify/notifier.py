"""All webhooks together: what the rest of the product talks to."""

from __future__ import annotations

import time
from collections.abc import Mapping

from exporter.config.notify import Webhook
from exporter.metrics.snapshot import Family
from exporter.notify.delivery import Delivery
from exporter.notify.families import build_notification_families
from exporter.notify.notices import Notice
from exporter.notify.pace import Pace
from exporter.threads import switch_threads


class WebhookNotifier:
    """A `Notifier` that sends to every webhook of the configuration.

    Args:
        webhooks: By name.
        pace: How patiently each notice is sent.
    """

    def __init__(self, webhooks: Mapping[str, Webhook], pace: Pace | None = None) -> None:
        self._pace = pace or Pace()
        self._deliveries: dict[str, Delivery] = {}
        self.apply(webhooks)

    @property
    def families(self) -> tuple[Family, ...]:
        """The figures of every webhook; without `database`."""
        return build_notification_families(
            [delivery.state for delivery in self._deliveries.values()]
        )

    def notify(self, notice: Notice) -> None:
        """Queue a notice for every webhook that wants to hear of its event."""
        for delivery in self._deliveries.values():
            delivery.offer(notice)

    def apply(self, webhooks: Mapping[str, Webhook]) -> None:
        """Take a new configuration over; a name that stays keeps its queue and its counts."""
        self._deliveries = switch_threads(self._deliveries, webhooks, self._create)

    def stop(self, timeout_s: float) -> None:
        """Deliver what is queued within a time; the rest is dropped, counted and logged."""
        deadline = time.monotonic() + timeout_s
        for delivery in self._deliveries.values():
            delivery.finish()
        for delivery in self._deliveries.values():
            delivery.stop(max(0.0, deadline - time.monotonic()))

    def _create(self, name: str, webhook: Webhook) -> Delivery:
        return Delivery(name, webhook, self._pace)
