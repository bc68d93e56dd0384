"""TLS to a server with a private authority: the option of a URI, and why a handshake fails.

`?ssl_ca_certs=/path` is redis-py's own name for the file with the certificates that are trusted;
a broker's URI has the same.
"""

import socket
import ssl
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

CA_OPTION = "ssl_ca_certs"
CA_FILE = f"{CA_OPTION}=/path"
"""How it is written, for messages."""
ENCRYPTED = ("rediss", "amqps")
"""The schemes of URIs with TLS."""
LENIENT = [ssl.VerifyFlags.VERIFY_X509_STRICT]
"""What is not asked of a private authority. Python 3.13 and later ask for extensions that the
simplest commands of openssl leave out, and certificates that worked would not any more."""

_PASSING = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a server that is just ending or starting may cause."""


def without_ca(uri: str) -> tuple[str, str | None]:
    """A URI without its option `ssl_ca_certs`, and the file that this names; None without it.

    With any other option beside it the URI stays as it is.
    """
    bare, _, query = uri.rpartition("?")
    if not query.startswith(f"{CA_OPTION}=") or "#" in query:
        return uri, None
    options = parse_qsl(query, keep_blank_values=True)
    return (bare, options[0][1]) if len(options) == 1 else (uri, None)


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
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({error.verify_message}); name the file of the "
                f"authority that has signed it with ?{CA_FILE}, and the host as in the certificate"
            )
        if isinstance(error, ssl.SSLError) and not isinstance(error, _PASSING):
            reason = (error.reason or str(error)).replace("_", " ").lower()
            if reason in ("wrong version number", "record layer failure"):
                return "it does not speak TLS; write the address without the s before ://"
            return f"TLS fails ({reason}); compare what both sides accept"
        nested = [each for each in error.args if isinstance(each, BaseException)]
        error = error.__cause__ or error.__context__ or (nested[0] if nested else None)
    return ""
