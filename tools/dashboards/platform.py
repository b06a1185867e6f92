"""What else goes wrong on the platform while its chats do: its schema, transactions and logs."""

from __future__ import annotations

from typing import Any

from tools.dashboards.expressions import gauge, happened, only_present, per_second, while_up
from tools.dashboards.panels import (
    GREEN,
    PURPLE,
    RED,
    YELLOW,
    Ask,
    Panel,
    make_lines,
    make_stat,
)


def make_platform() -> list[Any]:
    """Return the row."""
    objects = gauge("chatqueue_contract_object_ok", by=("kind", "name"))
    rollbacks = per_second("chatqueue_database_rollbacks_total")
    before = rollbacks.replace("]", "] offset 1d")
    errors = happened("chatqueue_log_events_total", 'level="error"', by=("source", "kind"))
    return [
        make_stat(
            Panel(
                "Objects of the fix not in order",
                "Columns, indexes, constraints, functions and views that the assignment fix made, "
                "and that are missing or different now. Above 0: `chatqueue verify` names them.",
                (Ask(while_up(f"sum (1 - {objects})")),),
                "short",
                ("ChatQueueFixBroken",),
                width=4,
                decimals=0,
            ),
            steps=[(None, GREEN), (1, RED)],
            names=False,
        ),
        make_lines(
            Panel(
                "Failed transactions",
                "Transactions rolled back a minute, against yesterday, and deadlocks. Well above "
                "yesterday: requests of the application fail; the server's log says which.",
                (
                    Ask(f"60 * {rollbacks}", "rolled back", PURPLE),
                    Ask(f"60 * {before}", "yesterday"),
                    Ask(
                        f"60 * {per_second('chatqueue_database_deadlocks_total')}",
                        "deadlocks",
                        RED,
                    ),
                ),
                "cpm",
                ("ChatQueueDatabaseUnstable",),
                width=10,
                minimum_step="5m",
            )
        ),
        make_lines(
            Panel(
                "Errors in the logs",
                "Error lines of the platform's logs by pattern, where the exporter reads them. Any "
                "of assignment or state: open that log at that time; no data: no log configured.",
                (Ask(only_present(errors, "kind", "none"), "{{source}} {{kind}}"),),
                "short",
                ("ChatQueueNotDraining",),
                width=10,
                colors={"/assignment_error|state_transition_error/": RED, "/cron_/": YELLOW},
                minimum_step="5m",
            ),
            bars=True,
        ),
    ]
