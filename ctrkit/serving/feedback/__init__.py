"""What a server has decided and what came of it: a journal, which becomes a log to learn from."""
