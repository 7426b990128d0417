"""What answers are known by."""

import re
import uuid

from nearvote.rpc.caller import Context

_GIVEN = re.compile(r"[!-~]{1,128}")


def request_id(context: Context) -> str:
    """The id that the caller gave, as many a proxy does, where it is one; else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id" and isinstance(value, str) and _GIVEN.fullmatch(value):
            return value
    return str(uuid.uuid4())
