"""A private authority, and certificates that it signs, made with openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Signed(NamedTuple):
    """The files of an authority's certificate, and of a server's certificate and key."""

    authority: Path
    certificate: Path
    key: Path


def sign(folder: Path, name: str = "127.0.0.1") -> Signed:
    """Make an authority, and a certificate for the server at this address.

    As with the shortest commands, neither has the extensions that Python 3.13 asks for by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = Signed(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    ca_key, request, names = folder / "ca.key", folder / "server.csr", folder / "names"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names.write_text(f"subjectAltName=IP:{name}\n")
    _openssl("req", "-x509", *new_key, "-days", "2", "-subj", f"/CN=authority of {folder.name}",
             "-keyout", ca_key, "-out", made.authority)  # fmt: skip
    _openssl("req", *new_key, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
    _openssl("x509", "-req", "-days", "2", "-in", request, "-CA", made.authority, "-CAkey", ca_key,
             "-CAcreateserial", "-extfile", names, "-out", made.certificate)  # fmt: skip
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
