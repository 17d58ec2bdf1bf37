"""The command line: `cwjax compare`, `cwjax sweep`, `cwjax report`."""
