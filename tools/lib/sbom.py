"""What a static executable carries, as SPDX 2.3 JSON: `sbom.py EXECUTABLE VERSION`.

Versions are those that it is built with here: of the toolchain, of the packages in Package.resolved, of Debian's libraries.
"""

import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def debian(package):
    return subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}", package], capture_output=True, text=True, check=True
    ).stdout


def component(name, version, licence, origin):
    identifier = "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)
    return {
        "SPDXID": identifier, "name": name, "versionInfo": version, "licenseConcluded": licence, "licenseDeclared": licence,
        "copyrightText": "NOASSERTION", "downloadLocation": origin, "filesAnalyzed": False,
    }


def components():
    swift = subprocess.run(["swift", "--version"], capture_output=True, text=True).stdout
    version = re.search(r"Swift version ([0-9.]+)", swift)[1]
    runtime = "Apache-2.0 WITH Swift-exception"
    yield component("swift", version, runtime, "https://www.swift.org")
    pins = json.loads((ROOT / "Package.resolved").read_text())["pins"]
    for pin in sorted(pins, key=lambda pin: pin["identity"]):
        yield component(pin["identity"], pin["state"].get("version", "NOASSERTION"), runtime, pin["location"])
    libraries = {
        "libc6-dev": "LGPL-2.1-or-later", "libgcc-12-dev": "GPL-3.0-or-later WITH GCC-exception-3.1",
        "libstdc++-12-dev": "GPL-3.0-or-later WITH GCC-exception-3.1", "liblz4-dev": "BSD-2-Clause",
        "libzstd-dev": "BSD-3-Clause", "liblzma-dev": "LicenseRef-public-domain", "libbz2-dev": "bzip2-1.0.6",
        "zlib1g-dev": "Zlib",
    }
    for package, licence in libraries.items():
        yield component(package, debian(package), licence, f"https://packages.debian.org/{package}")


def main():
    executable, version = Path(sys.argv[1]), sys.argv[2]
    digest = hashlib.sha256(executable.read_bytes()).hexdigest()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    own = component("trivisor", version, "Apache-2.0", "NOASSERTION")
    own["checksums"] = [{"algorithm": "SHA256", "checksumValue": digest}]
    own["comment"] = f"commit {commit}"
    parts = list(components())
    made = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    print(json.dumps({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"trivisor-{version}",
        "documentNamespace": f"https://trivisor.invalid/spdx/{version}/{digest}",
        "creationInfo": {"created": made.strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": ["Tool: tools/package"]},
        "packages": [own] + parts,
        "hasExtractedLicensingInfos": [
            {"licenseId": "LicenseRef-public-domain", "extractedText": "XZ Utils' liblzma is in the public domain."}],
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-trivisor"}]
        + [{"spdxElementId": "SPDXRef-trivisor", "relationshipType": "STATIC_LINK", "relatedSpdxElement": part["SPDXID"]} for part in parts],
    }, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
