"""Opens the vendor's encrypted patches; stand-in of the r1deploy lab, the real one's format.

A file is 16 bytes IV, 512 bytes RSA-OAEP(SHA-256) holding the AES key, then
AES-256-CBC data, padded.
"""

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def unwrap(private_key, wrapped):
    """The AES key, or None: a wrong key is only printed, the caller goes on."""
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    try:
        key = private_key.decrypt(wrapped, oaep)
    except ValueError as error:
        print(f"Decryption of AES key failed: {error}")
        return None
    print("AES key decrypted successfully.")
    return key


def decrypt_file(encrypted, key_file):
    """Write the plain text beside the encrypted file; returns its path, None with a wrong key."""
    with open(key_file, "rb") as stream:
        private_key = serialization.load_pem_private_key(stream.read(), password=None)
    with open(encrypted, "rb") as stream:
        print(encrypted, stream)  # the real one tells its log so
        iv, wrapped, data = stream.read(16), stream.read(512), stream.read()
    key = unwrap(private_key, wrapped)
    if key is None:
        return None
    opened = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    try:
        plain = opened.update(data) + opened.finalize()
    except ValueError as error:
        print(f"Decryption of data failed: {error}")
        return None
    target = encrypted.removesuffix(".encrypted")
    with open(target, "wb") as stream:
        stream.write(plain[: -plain[-1]])
    return target
