"""What benches/engine.py is made of: programs under test, alternated rounds, models, the table."""
