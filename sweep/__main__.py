"""`python -m sweep`: the command line without the cluster commands."""

from sweep.commands.cli import app

if __name__ == "__main__":
    app(prog_name="prune-sweep")
