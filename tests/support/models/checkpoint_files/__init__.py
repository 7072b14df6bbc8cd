"""Change the files of a saved checkpoint: to those of the hub, or to quantised ones."""
