"""The command line: option declarations; bodies import lazily and use public names only."""
