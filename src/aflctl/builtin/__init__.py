"""What ships with aflctl, one file a plug-in, discovered through the same entry points as a stranger's."""
