"""`python -m experiments.sweep`: the same as `cwjax sweep`."""

from cwjax.cli import command_line, sweep

if __name__ == "__main__":
    command_line.run_main(sweep.main)
