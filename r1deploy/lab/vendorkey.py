"""The vendor's half of the lab: a key made here, and patches encrypted in FlagScale's format."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from r1deploy.lab.labsecrets import write_secret
from r1deploy.lab.places import Layout

BLOCK = 16


def ensure(layout: Layout) -> Any:
    """The vendor's RSA-4096 key of this lab; its file is the one the vendor would mail."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    if layout.vendor_key.is_file():
        return serialization.load_pem_private_key(layout.vendor_key.read_bytes(), password=None)
    key = rsa.generate_private_key(public_exponent=65537, key_size=4096)
    shape = serialization.PrivateFormat.TraditionalOpenSSL
    pem = key.private_bytes(serialization.Encoding.PEM, shape, serialization.NoEncryption())
    write_secret(layout.vendor_key, pem)
    return key


def fingerprint(key: Any) -> str:
    """Names the key without telling it."""
    from cryptography.hazmat.primitives import serialization

    shape = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_key().public_bytes(serialization.Encoding.DER, shape)).hexdigest()


def encrypt(key: Any, plain: bytes) -> bytes:
    """16 bytes IV, the AES key wrapped by RSA-OAEP(SHA-256), AES-256-CBC data with PKCS#7 padding."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    secret, iv = os.urandom(32), os.urandom(BLOCK)
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    wrapped: bytes = key.public_key().encrypt(secret, oaep)
    fill = BLOCK - len(plain) % BLOCK
    sealed = Cipher(algorithms.AES(secret), modes.CBC(iv)).encryptor()
    return iv + wrapped + sealed.update(plain + bytes([fill]) * fill) + sealed.finalize()
