"""Where shard work runs; knows tasks and callables, no domain words."""
