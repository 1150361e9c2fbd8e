"""Fetches Debian packages and unpacks them without installing anything."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.parse


class PackageError(Exception):
    """A package could not be had; the message says which and what to do."""


def _run(command, folder):
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PackageError(f"there is no {command[0]} on this machine: the sources are Debian 12 packages, which need "
                           "apt-get and dpkg") from None


def _why(package, text):
    """What apt-get's complaint means to the person who reads it."""
    if "Unable to locate package" in text or "has no installation candidate" in text or "No packages found" in text:
        return (f"apt-get knows no package '{package}': it is in Debian 12 main; look into /etc/apt/sources.list and "
                "run apt-get update")
    if any(sign in text for sign in ("Could not resolve", "Failed to fetch", "Could not connect", "Unable to connect",
                                     "Temporary failure")):
        return (f"no network to fetch '{package}' ({text.strip().splitlines()[-1]}); put its .deb into the folder of "
                "--packages to work without")
    if "No space left" in text:
        return f"the disk is full: '{package}' was not fetched"
    return f"apt-get download {package} failed: {text.strip()}"


class Packages:
    """The packages below a folder that keeps the .deb files and what was unpacked, to be used again."""

    def __init__(self, folder, say=lambda text: None):
        self._folder = pathlib.Path(folder).resolve()
        self._say = say
        self.versions = {}

    def unpacked(self, package):
        """The folder that holds the package's files (usr/share/...); fetches and unpacks it where needed."""
        deb = self._deb(package)
        version = urllib.parse.unquote(deb.name.split("_")[1])
        self.versions[package] = version
        target = self._folder / "unpacked" / f"{package}_{version.replace(':', '%3a')}"
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = pathlib.Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
            try:
                done = _run(["dpkg", "-x", str(deb), str(partial)], self._folder)
                if done.returncode != 0:
                    raise PackageError(f"{deb.name} cannot be unpacked ({done.stderr.strip()}); if the file is broken, "
                                       f"delete {deb}")
                os.rename(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return target

    def _deb(self, package):
        kept = sorted(self._folder.glob(f"{package}_*.deb"))
        if len(kept) > 1:
            raise PackageError(f"{self._folder} holds {len(kept)} versions of '{package}': keep one of "
                               + ", ".join(deb.name for deb in kept))
        if kept:
            return kept[0]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._say(f"fetching {package}")
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._folder) as fetch:
            done = _run(["apt-get", "-q", "download", package], fetch)
            debs = list(pathlib.Path(fetch).glob("*.deb"))
            if done.returncode != 0 or not debs:
                raise PackageError(_why(package, done.stderr + done.stdout))
            os.rename(debs[0], self._folder / debs[0].name)
        return self._folder / debs[0].name
