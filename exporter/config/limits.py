"""Limits that are no durations: a share or a number, or off."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from exporter.config.values import (
    FROM_ENVIRONMENT,
    Share,
    fault,
    read_share,
    read_whole_number,
)


def _check_objective(objective: float) -> float:
    # A burn rate is at most 1 / (1 - objective): below a half there is no room for an alert.
    if objective < 0.5:
        most = 1 / (1 - objective)
        raise fault(
            f"allows a burn rate of {most:.2g} at most, too little to tell trouble from chance",
            "0.5 or more, and below 1",
        )
    return objective


Objective = Annotated[
    Share,
    AfterValidator(_check_objective),
    WithJsonSchema({"title": "share", "type": "number", "minimum": 0.5, "exclusiveMaximum": 1}),
]


def _read_share_limit(value: object) -> float | None:
    if value is False or value == "off":
        return None
    try:
        return read_share(value)
    except PydanticCustomError as error:
        context = error.context or {}
        raise fault(context["problem"], f"{context['expected']}, or off") from None


LimitShare = Annotated[
    float | None,
    PlainValidator(_read_share_limit),
    PlainSerializer(lambda v: "off" if v is None else v),
    WithJsonSchema(
        {
            "title": "share or off",
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                {"enum": ["off", False]},
                {"type": "string", "pattern": FROM_ENVIRONMENT},
            ],
        }
    ),
]


def _read_count_limit(value: object) -> int | None:
    if value is False or value == "off":
        return None
    form = "a whole number from 1 to 100, or off"
    try:
        count = read_whole_number(value)
    except PydanticCustomError as error:
        raise fault((error.context or {})["problem"], form) from None
    if not 1 <= count <= 100:
        raise fault("is out of range", form)
    return count


LimitCount = Annotated[
    int | None,
    PlainValidator(_read_count_limit),
    PlainSerializer(lambda v: "off" if v is None else v),
    WithJsonSchema(
        {
            "title": "whole number or off",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 100},
                {"enum": ["off", False]},
                {"type": "string", "pattern": rf"^[0-9]+$|{FROM_ENVIRONMENT}"},
            ],
        }
    ),
]
