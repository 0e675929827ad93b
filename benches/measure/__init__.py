"""Parts of benches/engine.py: programs under test, alternated rounds, models, the table."""
