"""What is special about each family of models, and nothing else.

To add a family, write a module here with a function `load(entry, settings) -> Vlm`, which loads the
weights of a catalog entry. It returns a subclass of `Vlm` (`runners/vlm/interface.py`), for most
models of `TransformersVlm` or `QwenStyleVlm` in `runners/transformers_models/`. Then name the
module as `family` of the new entries in `common/catalog.py`. A further model of a known family is
an entry there and no code.
"""
