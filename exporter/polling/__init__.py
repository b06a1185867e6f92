"""When to ask which query, and what came of it: one worker per database."""
