"""The directory of a study: what its files hold, typed, and how they are written whole."""
