"""The vendor's key: its place, its mode, and that it decrypts the locked patches."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from r1deploy.errors import PreflightError
from r1deploy.inputs.git import blobs
from r1deploy.settings import redact
from r1deploy.settings.model import Settings

KEY = "private_key.pem"


def prove_key(settings: Settings, ciphertexts: Mapping[str, str]) -> str:
    """Decrypt the patches' AES keys with the vendor's key; returns a sentence. Raises PreflightError with the fix.

    Format (FlagScale's encryption_utils): 16 bytes IV, 512 bytes RSA-OAEP(SHA-256) of a 32-byte AES key, data.
    """
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    path = key_file(settings)
    if path is None:
        return "no patch is encrypted"
    try:
        text = path.read_bytes()
        redact.remember(text.decode("ascii", "replace"))
        key = serialization.load_pem_private_key(text, password=None)
    except TypeError:
        # It takes the key's name only when it is whole; openssl asks for the passphrase by itself.
        name = shlex.quote(str(path))
        fix = f"openssl rsa -in {name} -out {name}.new && mv {name}.new {name}"
        raise PreflightError("KEY_PASSPHRASE", f"{path} asks for a passphrase", fix=fix) from None
    except ValueError:
        raise PreflightError(
            "KEY_NOT_PEM", f"{path} is no PEM private key", fix="ask the vendor for the key again"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != 4096:
        raise PreflightError("KEY_WRONG", f"{path} is not an RSA-4096 key", fix="ask the vendor for the key again")
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    for name, data in blobs(settings, settings.patch.commit, sorted(ciphertexts)).items():
        digest = hashlib.sha256(data).hexdigest()
        if digest != ciphertexts[name]:
            message = f"{name}: sha256 {digest[:12]}, r1deploy.lock says {ciphertexts[name][:12]}"
            raise PreflightError("PATCH_TAMPERED", message, fix="do not go on; compare with the vendor's delivery")
        try:
            good = len(key.decrypt(data[16:528], oaep)) == 32
        except ValueError:
            good = False
        if not good:
            message = f"{path} does not decrypt {name}"
            raise PreflightError("KEY_WRONG", message, fix=f"ask for the key of FlagScale {settings.patch.commit[:12]}")
    # Without one the patch itself could not be resolved, which is told elsewhere.
    return f"the key decrypts {len(ciphertexts)} patches" if ciphertexts else "the key is an RSA-4096 key"


def key_file(settings: Settings) -> Path | None:
    """The vendor's key, checked for place and mode; None where no patch is encrypted. Raises PreflightError."""
    if not (settings.patch.encrypted and settings.patch.backends):
        return None
    if settings.patch.key_dir is None:
        fix = "put private_key.pem into a folder (0700) and set patch.key_dir"
        raise PreflightError("KEY_MISSING", "the patch is encrypted and patch.key_dir is not set", fix=fix)
    folder = Path(settings.patch.key_dir)
    if folder.is_file():
        message = f"patch.key_dir is a file: {folder}"
        where = folder.parent if folder.name == KEY else f"FOLDER, where it is called {KEY}"
        raise PreflightError("KEY_NOT_FOLDER", message, fix=f"name its folder: patch.key_dir: {where}")
    path = folder / KEY
    if not path.is_file():
        raise PreflightError("KEY_MISSING", f"{path}: no such file", fix="the vendor sends private_key.pem by mail")
    quoted = shlex.quote(str(path))
    if not os.access(path, os.R_OK):
        raise PreflightError("KEY_MODE", f"{path} cannot be read", fix=f"as root: chown {os.geteuid()} {quoted}")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise PreflightError("KEY_MODE", f"{path} is open to others (mode {mode:04o})", fix=f"chmod 0600 {quoted}")
    return path
