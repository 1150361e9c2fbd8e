"""Notes beside golden files what wrote them and how close the tests hold to them."""

import importlib.metadata
import json


def note(path, script, packages, seeds, tolerance):
    """Enters path's file into manifest.json beside it: the script, the versions of the packages, seeds, tolerance."""
    target = path.with_name("manifest.json")
    manifest = json.loads(target.read_text()) if target.exists() else {}
    versions = {name: importlib.metadata.version(name) for name in packages}
    manifest[path.name] = dict(generator=f"tools/golden/{script}", versions=versions, seeds=seeds, tolerance=tolerance)
    target.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
