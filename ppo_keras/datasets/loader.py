def load_texts(): pass
