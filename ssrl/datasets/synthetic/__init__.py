"""A synthetic surveillance set: `scene` and `actors` staged by `events`, filmed by `video`, stored by `dataset`."""
