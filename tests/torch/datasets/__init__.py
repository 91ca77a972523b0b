"""The datasets, as training programs use them: DataLoader workers, ranks, restarts, and everything that ends early."""
