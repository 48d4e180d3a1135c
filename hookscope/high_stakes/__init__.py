"""The high-stakes study: fitted to synthetic pairs, chosen on dev sets, tested elsewhere."""
