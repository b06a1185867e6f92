"""The section `verify`: what `chatqueue verify` asks besides the databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from exporter.config.notify import HeaderName, HeaderValue, Url
from exporter.config.section import Section
from exporter.config.values import (
    ByName,
    Duration,
    Name,
    Text,
    WholeNumber,
    between,
    fault,
    from_to,
)


class Endpoint(Section):
    """One URL of the application and the answer that is good."""

    url: Url = Field(
        description="What to ask, with GET. It counts as a secret and is never printed."
    )
    status: Annotated[WholeNumber, from_to(100, 599)] = Field(
        default=200, description="The status of a good answer. Redirects are not followed."
    )
    within: Annotated[Duration, between("100ms", "1m")] = Field(
        default=timedelta(seconds=5),
        description="How long the whole answer may take. At least 100ms, at most 1m.",
    )
    text: Text | None = Field(
        default=None, description="What the body must contain, capitals as written."
    )
    json_path: Text | None = Field(
        default=None,
        description="A value in a body of JSON, as names and numbers with dots between: "
        "`checks.0.status`. Needs json_value.",
    )
    json_value: Text | None = Field(
        default=None, description="What that value must be, as text: `ok`, `true`, `3`."
    )
    headers: ByName[HeaderName, HeaderValue] = Field(
        default={},
        title="mapping of texts",
        description="Headers to ask with; their values count as secrets: take them from the "
        "environment with ${NAME}.",
    )

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Endpoint:
        if (self.json_path is None) != (self.json_value is None):
            missing = "json_value" if self.json_value is None else "json_path"
            raise fault(f"has no {missing}", "json_path and json_value, or neither", bare=True)
        return self


class Verify(Section):
    """What `chatqueue verify` asks besides the databases."""

    endpoints: ByName[Name, Endpoint] = Field(
        default={},
        title="sections by name",
        description="URLs of the application that must answer, each under the name that "
        "`chatqueue verify` prints.",
    )
