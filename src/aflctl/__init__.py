"""aflctl: a command-line laboratory for asynchronous federated learning."""

__version__ = "0.1.0"
