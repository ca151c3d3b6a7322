"""A certificate for 127.0.0.1, made anew for each run."""

from __future__ import annotations

from pathlib import Path

import trustme


def write(directory: Path) -> None:
    """Writes ca.pem, cert.pem and key.pem."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "cert.pem")
