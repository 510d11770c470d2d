"""The fast engine, which trains many clients at once.

Read it from the top down: `engine` divides the clients into chunks and the chunks among threads; `stack`
trains one chunk, with its `batch`es and its `first_layer`; `layers` runs a model forwards and backwards on a
stack, by the `layer_rules` of its kinds of layer. `dual_layer` and `character_lookup` are two layers computed
in another order, where that is less work.
"""
