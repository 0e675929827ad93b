"""Tiny files in the layouts of public sets, and an account of their metrics apart from the program's."""
