"""What keeps and watches a run: its folder, its states, what is written down while it learns."""
