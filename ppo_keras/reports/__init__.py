"""What a person looks at: measures with their intervals and tables when a run has ended, pictures also while it learns."""
