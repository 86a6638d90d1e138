"""A certificate authority for tests, by the openssl program: a server's, a client's and a stranger's certificate."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["make_certificates"]

DAYS = "2"


def make_certificates(directory: Path, address: str = "127.0.0.1") -> Path:
    """Fill ``directory`` as DOCKER_CERT_PATH is (ca, cert, key); files of the server and the stranger have a prefix."""
    directory.mkdir(parents=True, exist_ok=True)
    for authority in ("ca", "stranger-ca"):
        _openssl(
            directory, f"req -x509 -nodes {_key(authority)} -subj /CN={authority} -days {DAYS} -out {authority}.pem"
        )
    for prefix, authority, usage in (
        ("server-", "ca", "serverAuth"),
        ("", "ca", "clientAuth"),
        ("stranger-", "stranger-ca", "clientAuth"),
    ):
        (directory / "extensions").write_text(f"subjectAltName=IP:{address},DNS:localhost\nextendedKeyUsage={usage}\n")
        _openssl(directory, f"req -new -nodes {_key(f'{prefix}key')} -subj /CN={usage} -out request")
        signing = f"-CA {authority}.pem -CAkey {authority}-key.pem -CAcreateserial -extfile extensions"
        _openssl(directory, f"x509 -req -in request {signing} -days {DAYS} -out {prefix}cert.pem")
    return directory


def _key(name: str) -> str:
    path = f"{name}.pem" if name.endswith("key") else f"{name}-key.pem"
    return f"-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -keyout {path}"


def _openssl(directory: Path, arguments: str) -> None:
    command = ["openssl", *arguments.split()]
    answer = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{' '.join(command)}: {answer.stderr}"
