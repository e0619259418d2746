"""What runs on hosts: Python 3.8 or newer, standard library only.

``r1deploy.shipping`` sends the package to a host's Python; ``plugins/module_utils/onhost`` is a link to it, so that
our Ansible modules import the same code. Nothing here imports the rest of r1deploy.
"""
