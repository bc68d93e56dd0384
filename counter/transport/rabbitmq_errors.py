"""Why RabbitMQ refuses a node: a refusal lasts until somebody changes the broker or the setting."""

import re

from pika.exceptions import (
    AuthenticationError,
    ChannelClosedByBroker,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from counter import tls

# Reply texts begin so. pika tells them in the representation of another error.
_refused = re.compile(
    r"(['\"])((?:ACCESS_REFUSED|NOT_ALLOWED|PRECONDITION_FAILED) - .*)\1", re.DOTALL
).search
# Reply texts that hold only for now end so: a limit of connections or queues, a virtual host that
# is being started. Before that they quote names, which may have any word in them.
_passes = re.compile(r"limit[^()]*\([^()]*\) is reached$|' is down$").search


def refusal(
    error: Exception, text: str, where: str, user: str, host: str, *, encrypted: bool
) -> str:
    """Why RabbitMQ `where` refuses a user in a virtual host, in one sentence; "" if that passes.

    `text` is that of the error, as it may be shown.
    """
    if isinstance(error, IncompatibleProtocolError) and not encrypted and tls.spoken_at(where):
        return f"AMQP_URI: what answers at {where} speaks TLS; write amqps:// for amqp://"
    if problem := tls.refusal(error):
        return f"AMQP_URI: no node can talk to RabbitMQ at {where}: {problem}"
    if type(error) is AuthenticationError:
        return (
            f"AMQP_URI: RabbitMQ at {where} takes no user and password ({text}); let it offer the "
            "mechanism PLAIN: auth_mechanisms.1 = PLAIN"
        )
    found = _refused(text)
    if not found or _passes(found[2]):
        return ""
    said = found[2]
    if isinstance(error, ProbableAuthenticationError):
        return (
            f"AMQP_URI: RabbitMQ at {where} refuses user {user!r} ({said}); check user and password"
        )
    if isinstance(error, ProbableAccessDeniedError):
        return (
            f"AMQP_URI: RabbitMQ at {where} refuses user {user!r} the virtual host {host!r} "
            f"({said}); create it, give the user permissions in it, or name another one"
        )
    if isinstance(error, ChannelClosedByBroker):
        remedy = "allow it: rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ"
        if error.reply_code != 403:
            remedy = "delete what is there under this name, or name another virtual host"
        return (
            f"AMQP_URI: RabbitMQ at {where} refuses what a node of user {user!r} must do in the "
            f"virtual host {host!r} ({said}); {remedy}"
        )
    return ""
