"""Passwords in URIs: they never get into a text that is logged or answered.

Servers, and the libraries that talk to them, may repeat in an error what they were sent.
"""

from urllib.parse import unquote, urlsplit

HIDDEN = "***"


def without_password(text: str, uri: str) -> str:
    """A text in which the password of a URI is hidden, however it is written there."""
    # Not `password` of the parts, which is cut where the URI is no valid one.
    user = urlsplit(uri).netloc.rpartition("@")[0]
    password = user.partition(":")[2]
    plain = unquote(password)
    # As it is in Python's representation of a text or of bytes as well.
    forms = {password, plain, repr(plain)[1:-1], repr(plain.encode())[2:-1]}
    for form in sorted(filter(None, forms), key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text
