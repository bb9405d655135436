"""Raw tables to encoded batches."""
