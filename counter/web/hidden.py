"""What no stranger is told of the machine: where files lie, and where servers listen.

The log of the node says the same sentences whole, for its operator.
"""

import re

_path = re.compile(r"(?<![\w/.:])/(?:[^\s/;,()'\"]+/)+([^\s/;,()'\"]*)").sub
_address = re.compile(
    r"(?P<at> at)? (?:[a-z]+://)?"
    r"(?:\[[0-9a-fA-F:.]+\]|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9.-]*(?=:[0-9]))"
    r"(?::[0-9]{1,5})?(?![\w.])"
).sub


def hide(text: str) -> str:
    """A sentence without the folders of its paths, and without addresses."""
    return _address(lambda found: "" if found["at"] else " an address", _path(r"\1", text))
