"""TLS to a server with a private authority: the option of a URI, and why a handshake fails.

`?ssl_ca_certs=/path` is redis-py's own name for the file with the certificates that are trusted;
a broker's URI has the same.
"""

import re
import socket
import ssl
from contextlib import suppress
from urllib.parse import unquote, urlsplit

CA_OPTION = "ssl_ca_certs"
CA_FILE = f"{CA_OPTION}=/path"
"""How it is written, for messages."""
ENCRYPTED = ("rediss", "amqps")
"""The schemes of URIs with TLS."""
LENIENT = [ssl.VerifyFlags.VERIFY_X509_STRICT]
"""What is not asked of a private authority. Python 3.13 and later ask for extensions that the
simplest commands of openssl leave out, and certificates that worked would not any more."""

# Some libraries hand on only the text of an error of TLS.
_alert = re.compile(r"\[SSL: (?:SSLV3|TLSV1|TLSV13)_(ALERT_[A-Z0-9_]+)\]").search
_PASSING = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a server that is just ending or starting may cause."""


def without_ca(uri: str) -> tuple[str, str | None]:
    """A URI without its option `ssl_ca_certs`, and the file that this names; None without it.

    With any other option beside it the URI stays as it is.
    """
    bare, _, query = uri.rpartition("?")
    name, _, file = query.partition("=")
    if name != CA_OPTION or re.search("[#&;]", file):
        return uri, None
    # A plus is a plus: it is a path, not a form.
    return bare, unquote(file)


def ca_problem(file: str) -> str:
    """What is wrong with a file of trusted certificates, "" if nothing is."""
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        return "holds no certificate"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return "" if file else "names no file"


def context_of(uri: str) -> ssl.SSLContext | None:
    """How to check the server at a URI with TLS; None for any other URI."""
    bare, file = without_ca(uri)
    if urlsplit(bare).scheme not in ENCRYPTED:
        return None
    context = ssl.create_default_context(cafile=file)
    if file is not None:
        for flag in LENIENT:
            context.verify_flags &= ~flag
    return context


def spoken_at(where: str) -> bool:
    """Whether what answers at `host:port` speaks TLS, whoever it is; waits two seconds at most."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    host, _, port = where.rpartition(":")
    with (
        suppress(OSError),
        socket.create_connection((host, int(port)), 2.0) as plain,
        anybody.wrap_socket(plain),
    ):
        return True
    return False


def refusal(error: BaseException | None) -> str:
    """Why TLS can never work with a server, in words; "" if the error is another one."""
    text, seen = repr(error), set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({error.verify_message}); name the file of the "
                f"authority that has signed it with ?{CA_FILE}, and the host as in the certificate"
            )
        if isinstance(error, ssl.SSLError) and not isinstance(error, _PASSING):
            return _failure(error.reason or str(error))
        nested = [each for each in error.args if isinstance(each, BaseException)]
        error = error.__cause__ or error.__context__ or (nested[0] if nested else None)
    found = _alert(text)
    return _failure(found[1]) if found else ""


def _failure(reason: str) -> str:
    reason = reason.replace("_", " ").lower()
    if reason in ("wrong version number", "record layer failure"):
        return "it does not speak TLS; write the address without the s before ://"
    if reason.endswith("certificate required"):
        return "it asks for a certificate, and nodes have none; let it take clients without one"
    return f"TLS fails ({reason}); compare what both sides accept"
