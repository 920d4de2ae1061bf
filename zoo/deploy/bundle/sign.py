"""An Ed25519 signature over the checksums of a bundle; what a device measures later is outside of it."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from zoo.errors import EnvironmentBroken, OptionInvalid, ProofFailed
from zoo.runtime.manifest import MANIFEST
from zoo.runtime.measure import MEASURED
from zoo.runtime.sums import SUMS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SIGNATURE = "signature.json"
HEADING = b"zoo bundle, schema 1\n"
"""Before what is signed, so that the key's other signatures mean nothing here."""
INSTALL = "`pip install edgezoo[sign]`"


def signature(files: Mapping[str, bytes], key_file: Path) -> bytes:
    """Sign the files of a bundle with a private key in PEM.

    Raises:
        OptionInvalid: no such key.
        EnvironmentBroken: `cryptography` is not installed.
    """
    key = _key(key_file, private=True)
    text = {"algorithm": "ed25519", "signature": base64.b64encode(key.sign(statement(files))).decode()}
    return (json.dumps(text, indent=2) + "\n").encode()


def check_signature(files: Mapping[str, bytes], key_file: Path) -> None:
    """Hold a bundle's signature against a public key in PEM.

    Raises:
        ProofFailed: the bundle is not signed, by another key, or has changed since.
        OptionInvalid: no such key.
        EnvironmentBroken: `cryptography` is not installed.
    """
    key = _key(key_file, private=False)
    from cryptography.exceptions import InvalidSignature

    if SIGNATURE not in files:
        raise ProofFailed("it is not signed; bundle it with --sign, or get it from who signed it")
    try:
        signed = base64.b64decode(json.loads(files[SIGNATURE])["signature"], validate=True)
        key.verify(signed, statement(files))
    except (ValueError, KeyError, TypeError, InvalidSignature) as exc:
        raise ProofFailed(f"its signature is not by {key_file}, or it has changed since; do not use it") from exc


def statement(files: Mapping[str, bytes]) -> bytes:
    """Return what is signed: the digest of every file, of the manifest without what devices measured."""
    lines = []
    for name in sorted(files.keys() - {SIGNATURE, SUMS}):
        content = files[name]
        if name == MANIFEST:
            values = {key: value for key, value in json.loads(content).items() if key != MEASURED}
            content = json.dumps(values, sort_keys=True).encode()
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode())
    return HEADING + b"".join(lines)


def _key(file: Path, *, private: bool) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
    except ImportError as exc:
        raise EnvironmentBroken(f"signatures need the package cryptography; {INSTALL}") from exc
    kind, wanted = ("private", Ed25519PrivateKey) if private else ("public", Ed25519PublicKey)
    make = "`openssl genpkey -algorithm ed25519 -out key.pem`, `openssl pkey -in key.pem -pubout -out pub.pem`"
    try:
        data = file.read_bytes()
        key = load_pem_private_key(data, password=None) if private else load_pem_public_key(data)
    except OSError as exc:
        raise OptionInvalid(f"{file}: {exc.strerror or exc}; make a pair of keys by {make}") from exc
    except Exception as exc:  # of many types, for a wrong password, another format, a damaged file
        raise OptionInvalid(f"{file} is no {kind} key in PEM without a password; make a pair by {make}") from exc
    if not isinstance(key, wanted):
        raise OptionInvalid(f"{file} is no {kind} Ed25519 key; make a pair by {make}")
    return key
