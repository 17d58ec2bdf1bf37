"""A study: its plan, its runs, and what is derived from them."""
