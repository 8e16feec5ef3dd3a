"""JSON Schemas of the wire contract, made from its models: one for each message, for other languages.

``python -m nats_identify.testing.client_kit.schemas docs/schemas`` writes them; a test holds the files equal to that.
The coordinators give the same with their endpoints (``nats micro info``).
"""

import json
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from nats_identify import operator_wire, wire
from nats_identify.schedule.model import Code
from nats_identify.schedule.model import Reason as QueuedReason

MESSAGES: Final[dict[str, type[BaseModel]]] = {
    "request": wire.Request,
    "confirm": wire.Answered,
    "cancel": wire.Cancelled,
    "granted": wire.Granted,
    "queued": wire.Queued,
    "refused": wire.Refused,
    "info": wire.Info,
    "status_query": operator_wire.StatusQuery,
    "status": operator_wire.FullStatus,
}
"""Every message that a client or an operator sends or receives, by the name of its file."""

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_OPEN: Final[dict[str, list[str]]] = {
    "queued": [value.value for value in QueuedReason],
    "refused": [value.value for value in Code],
    "status": [value.value for value in QueuedReason],
}
"""Values of this version's reasons and codes. A newer coordinator may send others, so that a schema names them only."""


class _Untitled(GenerateJsonSchema):
    """Without titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """No field has one."""
        return False


def schema_of(name: str) -> dict[str, Any]:
    """Return the schema of one of `MESSAGES`."""
    schema = MESSAGES[name].model_json_schema(schema_generator=_Untitled)
    if "status" in MESSAGES[name].model_fields:
        schema["required"] = ["status", *schema["required"]]  # the kind of a reply is in each
    reason = schema.get("$defs", {}).get("Reason")
    if reason is not None:
        del reason["enum"]
        reason["description"] = "A client reads a value that it does not know as unknown."
        reason["examples"] = _OPEN[name]
    return {"$schema": DIALECT, **schema}


def text_of(name: str) -> str:
    """The text of a schema's file."""
    return json.dumps(schema_of(name), indent=2, ensure_ascii=False).replace("``", "`") + "\n"
