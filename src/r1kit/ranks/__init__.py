"""Several processes as one: collectives, shards, and how ranks are started."""
