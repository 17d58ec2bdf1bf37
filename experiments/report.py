"""`python -m experiments.report`: the same as `cwjax report`."""

from cwjax.cli import command_line, report

if __name__ == "__main__":
    command_line.run_main(report.main)
