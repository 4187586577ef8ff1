"""Which keys this device trusts, and whether it opens signed bundles only.

A folder of public keys (PEM, ``*.pub``): the one that ``EDGE_RUNTIME_TRUSTED_KEYS`` names, else
``/etc/edge-runtime/trusted-keys`` where it exists, else ``~/.config/edge-runtime/trusted-keys`` (Windows:
``%PROGRAMDATA%`` and ``%APPDATA%``). A file ``signed-bundles-only`` in it is the device's rule: no command opens a
bundle that none of the keys has signed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.bundle.signing import PublicKey

__all__ = [
    "RULE_NAME",
    "device_requires_signature",
    "require_signatures",
    "trust",
    "trusted_keys",
    "trusted_keys_folder",
]

RULE_NAME = "signed-bundles-only"


def trusted_keys_folder() -> Path:
    """Return the folder of this device's trusted keys; it need not exist."""
    named = os.environ.get("EDGE_RUNTIME_TRUSTED_KEYS")
    if named:
        return Path(named)
    if sys.platform == "win32":
        system = Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "edge-runtime" / "trusted-keys"
        own = Path(os.environ.get("APPDATA", Path.home())) / "edge-runtime" / "trusted-keys"
    else:
        system = Path("/etc/edge-runtime/trusted-keys")
        own = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "edge-runtime" / "trusted-keys"
    return system if system.is_dir() else own


def device_requires_signature() -> bool:
    """Tell whether this device opens signed bundles only."""
    return (trusted_keys_folder() / RULE_NAME).exists()


def trusted_keys() -> dict[str, PublicKey]:
    """Return the trusted keys by their key id.

    Raises
    ------
    BundleError
        A file ``*.pub`` in the folder is no Ed25519 public key.
    """
    from edge_runtime.bundle.signing import load_public_key

    keys = (load_public_key(path) for path in sorted(trusted_keys_folder().glob("*.pub")))
    return {key.key_id: key for key in keys}


def trust(path: Path) -> PublicKey:
    """Copy a public key into the folder of trusted keys, named after its key id."""
    from edge_runtime.bundle.signing import load_public_key

    key = load_public_key(path)
    folder = trusted_keys_folder()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{key.key_id}.pub"
    temporary = target.with_suffix(".part")
    temporary.write_bytes(key.pem)
    temporary.replace(target)
    return key


def require_signatures() -> None:
    """Let this device open signed bundles only, from now on."""
    folder = trusted_keys_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RULE_NAME).touch()
