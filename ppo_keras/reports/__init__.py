"""What a person looks at when a run has ended: measures with their intervals, tables, pictures."""
