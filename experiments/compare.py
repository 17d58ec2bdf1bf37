"""`python -m experiments.compare`: the same as `cwjax compare`."""

from cwjax.cli import command_line, compare

if __name__ == "__main__":
    command_line.run_main(compare.main)
