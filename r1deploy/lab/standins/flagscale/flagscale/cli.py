"""The command `flagscale` of the stand-in; at the patched commit it knows a model and a YAML file."""

import os
import sys

import click

VERSION = "0.6.0"  # as the real one says at this commit; it names no release


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, "-v", "--version", message="flagscale version %(version)s")
def flagscale():
    """Stand-in for FlagScale, of the r1deploy lab."""


def installed_example(model):
    """Where the real one looks without a YAML: in the installed package, not in the source tree."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.path.join(package, "examples", model, "conf", "serve.yaml")


@flagscale.command()
@click.argument("model_name", type=str)
@click.argument("yaml_path", type=click.Path(exists=True), required=False)
def serve(model_name, yaml_path=None):
    """Serve a model as a YAML file says."""
    import flag_scale  # noqa: F401  puts `run` and `flagscale` on the path
    from run import main

    path = os.path.abspath(yaml_path) if yaml_path else installed_example(model_name)
    if not os.path.exists(path):
        click.echo(f"Error: The yaml {path} does not exist.", err=True)
        return
    click.echo(f"Using {'configuration' if yaml_path else 'default configuration'} yaml: {path}")
    click.secho("Warning: on several machines, see that the hostfile and the environment are right.", fg="yellow")
    name = os.path.splitext(os.path.basename(path))[0]
    sys.argv = ["run.py", f"--config-path={os.path.dirname(path)}", f"--config-name={name}"]
    main()


if __name__ == "__main__":
    flagscale()
