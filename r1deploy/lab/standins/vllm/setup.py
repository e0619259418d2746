"""Build of the stand-in vLLM: every csrc/*.c is compiled into vllm._C, one after the other."""

import glob
import os
import time

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(glob.glob("csrc/*.c"))
# A real vLLM builds for many minutes; the lab's takes this long, whatever the machine.
SECONDS = float(os.environ.get("R1LAB_BUILD_SECONDS", "3"))


class Build(build_ext):
    """Compiles with a progress line a file, as ninja prints it."""

    def build_extension(self, ext):
        compile_one = self.compiler.compile

        def compile_all(sources, *args, **kwargs):
            objects = []
            for number, source in enumerate(sources, 1):
                print(f"[{number}/{len(sources) + 1}] Building C object {source}.o", flush=True)
                objects += compile_one([source], *args, **kwargs)
                time.sleep(SECONDS / len(sources))
            print(f"[{len(sources) + 1}/{len(sources) + 1}] Linking C shared module vllm/_C.so", flush=True)
            return objects

        self.compiler.compile = compile_all
        super().build_extension(ext)


setup(
    name="vllm",
    version="0.7.3",
    description="stand-in for vLLM, of the r1deploy lab",
    packages=find_packages(include=["vllm", "vllm.*"]),
    ext_modules=[Extension("vllm._C", SOURCES, extra_compile_args=["-O2"])],
    cmdclass={"build_ext": Build},
    entry_points={"console_scripts": ["vllm=vllm.scripts:main"]},
    python_requires=">=3.9",
)
