"""`python -m sweep`: the command line without the cluster commands."""

if __name__ == "__main__":
    from sweep.commands.interrupts import quit_at_ctrl_c

    quit_at_ctrl_c()

    from sweep.commands.cli import app

    app(prog_name="prune-sweep")
