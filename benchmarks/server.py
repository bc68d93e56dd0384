"""How gunicorn runs a contender: by every setting of the node's, with none of its hooks."""

from runpy import run_path

from gunicorn.config import KNOWN_SETTINGS

_known = {setting.name for setting in KNOWN_SETTINGS}
_node = run_path("gunicorn.conf.py")
globals().update({name: _node[name] for name in _known & _node.keys() if not callable(_node[name])})
