"""`python run.py --config-path=DIR --config-name=NAME [action=run|stop]` of the stand-in FlagScale."""

import argparse
import sys


def main():
    from flagscale.config import load
    from flagscale.runner.runner_serve import ServeRunner

    parser = argparse.ArgumentParser(description="Stand-in for FlagScale's run.py, of the r1deploy lab.")
    parser.add_argument("--config-path", required=True)
    parser.add_argument("--config-name", default="config")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    config = load(options.config_path, options.config_name, options.overrides)
    kind = config.experiment.task.get("type", "train")
    if kind != "serve":
        sys.exit(f"The lab's stand-in only serves; task type {kind} is not had here.")
    runner = ServeRunner(config)
    if config.action == "run":
        runner.run()
    elif config.action == "stop":
        runner.stop()
    else:
        raise ValueError(f"Unknown action {config.action}")


if __name__ == "__main__":
    main()
