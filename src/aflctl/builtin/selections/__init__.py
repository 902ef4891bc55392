"""Built-in selections."""
