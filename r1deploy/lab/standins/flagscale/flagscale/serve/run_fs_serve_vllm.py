"""FlagScale's own serving on Ray Serve is not had in the r1deploy lab."""

import sys

sys.exit("run_fs_serve_vllm: the lab's stand-in has no Ray Serve; set deploy.use_fs_serve: false")
