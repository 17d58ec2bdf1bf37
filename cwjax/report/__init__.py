"""What an experiment leaves behind: files, tables, plots and the report."""
