"""File formats and transport: downloads, archives, arrays, SQLite, tf.train.Example."""
