"""``edge-runtime bundle``: keys, signatures, packing, installing."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_runtime.bundle.packing import DEFAULT_LIMITS
from edge_runtime.commands.options import bundle_argument, require_signature_option

__all__ = ["command"]

_PASSPHRASE = "EDGE_RUNTIME_KEY_PASSPHRASE"


@click.group("bundle", short_help="Sign, verify, pack, unpack, install bundles.")
def command() -> None:
    """Sign and verify bundles, pack them into one file, install them on this device."""


@command.command("keygen")
@click.argument("key", metavar="KEY", type=click.Path(path_type=Path))
@click.option("--passphrase", is_flag=True, help=f"Encrypt the private key; asks, or takes {_PASSPHRASE}.")
def keygen(key: Path, passphrase: bool) -> int:
    """Make an Ed25519 key pair: KEY, which stays with whoever signs, and KEY.pub for the devices."""
    from edge_runtime.bundle.signing import write_key_pair

    public = write_key_pair(key, _passphrase(confirm=True) if passphrase else None)
    click.echo(f"Key {public.key_id}: {key} (keep it secret) and {key}.pub (give it to the devices).")
    return 0


@command.command("sign")
@bundle_argument
@click.option("--key", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Private key (PEM).")
@click.option("--passphrase", is_flag=True, help=f"The key is encrypted; asks, or takes {_PASSPHRASE}.")
def sign(bundle_path: Path, key: Path, passphrase: bool) -> int:
    """Check every file of BUNDLE, a folder, and sign its manifest."""
    from edge_runtime.bundle import open_bundle
    from edge_runtime.bundle.signing import sign_bundle

    with open_bundle(bundle_path) as bundle:
        signature = sign_bundle(bundle, key, _passphrase() if passphrase else None)
    click.echo(f"Signed by key {signature.key_id} at {signature.signed}.")
    return 0


@command.command("verify")
@bundle_argument
@click.option(
    "--key", "key_paths", metavar="FILE", multiple=True, type=click.Path(path_type=Path),
    help="Public key to accept instead of this device's trusted ones; can be repeated.",
)  # fmt: skip
@click.option("--unsigned", is_flag=True, help="Check the files alone, not who signed.")
def verify(bundle_path: Path, key_paths: tuple[Path, ...], unsigned: bool) -> int:
    """Check BUNDLE: signed by a trusted key, every file as the manifest says, and no other file.

    Exit code 0 when all is well, 1 with what is wrong first.
    """
    from edge_runtime.bundle import open_bundle
    from edge_runtime.bundle.signing import load_public_key, verify_bundle
    from edge_runtime.bundle.trust import trusted_keys

    loaded = {key.key_id: key for key in map(load_public_key, key_paths)}
    keys = None if unsigned else loaded or trusted_keys()
    with open_bundle(bundle_path) as bundle:
        verify_bundle(bundle, keys)
        files = len(bundle.manifest.all_files())
        signature = bundle.manifest.signature
    by = "signature not looked at" if signature is None or unsigned else f"signed by key {signature.key_id}"
    click.echo(f"{bundle.manifest.name}: {files} files as listed, {by}.")
    return 0


@command.command("trust")
@click.argument("key", metavar="KEY.pub", required=False, type=click.Path(path_type=Path))
@click.option("--only-signed", is_flag=True, help="From now on this device opens signed bundles only.")
def trust(key: Path | None, only_signed: bool) -> int:
    """Trust a public key on this device; without one, show which are trusted."""
    from edge_runtime.bundle.trust import (
        device_requires_signature,
        require_signatures,
        trusted_keys,
        trusted_keys_folder,
    )
    from edge_runtime.bundle.trust import trust as add

    if key is not None:
        add(key)
    if only_signed:
        require_signatures()
    click.echo(f"{trusted_keys_folder()}: " + (", ".join(trusted_keys()) or "no key"))
    click.echo(f"Unsigned bundles are {'not opened' if device_requires_signature() else 'opened'} on this device.")
    return 0


@command.command("pack")
@bundle_argument
@click.argument("out", metavar="OUT.zip", type=click.Path(path_type=Path))
@require_signature_option
def pack(bundle_path: Path, out: Path, require_signature: bool) -> int:
    """Check BUNDLE and write it as one zip: the same bundle gives the same bytes."""
    from edge_runtime.bundle import open_bundle
    from edge_runtime.bundle.packing import pack_bundle

    with open_bundle(bundle_path, require_signature=require_signature) as bundle:
        digest = pack_bundle(bundle, out)
    click.echo(f"{digest}  {out}")
    return 0


@command.command("unpack")
@click.argument("source", metavar="FILE.zip", type=click.Path(path_type=Path))
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--max-bytes", type=click.IntRange(1), default=DEFAULT_LIMITS.max_bytes, show_default=True)
@require_signature_option
def unpack(source: Path, out: Path, max_bytes: int, require_signature: bool) -> int:
    """Unpack a zip of a bundle to DIR, a new folder or a bundle to replace; only what its manifest lists."""
    from edge_runtime.bundle.packing import UnpackLimits, unpack_bundle

    unpack_bundle(source, out, UnpackLimits(max_bytes=max_bytes), require_signature=require_signature)
    click.echo(f"Unpacked to {out}.")
    return 0


@command.command("install")
@bundle_argument
@click.option("--to", "place", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Where they live.")
@click.option("--keep", type=click.IntRange(0), default=2, show_default=True, help="Earlier bundles to keep.")
@click.option("--no-selftest", is_flag=True, help="Install without the self-test.")
@require_signature_option
def install(bundle_path: Path, place: Path, keep: int, no_selftest: bool, require_signature: bool) -> int:
    """Copy BUNDLE to DIR, let it test itself, and make it the current one; DIR is then given in place of a bundle.

    What is running keeps the bundle that it has until it is started again.
    """
    from edge_runtime.bundle.installing import install_bundle

    entry = install_bundle(bundle_path, place, require_signature=require_signature, selftest=not no_selftest, keep=keep)
    click.echo(f"{entry.name} ({entry.folder}) is current in {place}.")
    return 0


@command.command("rollback")
@click.argument("place", metavar="DIR", type=click.Path(path_type=Path))
def rollback(place: Path) -> int:
    """Make the bundle current that was so before."""
    from edge_runtime.bundle.installing import roll_back

    entry = roll_back(place)
    click.echo(f"{entry.name} ({entry.folder}), installed {entry.installed}, is current in {place}.")
    return 0


def _passphrase(confirm: bool = False) -> bytes:
    given = os.environ.get(_PASSPHRASE)
    if given is None:
        given = str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm))
    return given.encode()
