"""The configuration: what a user may write, and the checked, frozen settings that the program uses."""
