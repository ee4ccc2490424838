"""A synthetic surveillance dataset: `events` puts `actors` in a `scene`, `video` films it, `dataset` writes it."""
