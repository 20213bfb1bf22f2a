"""llama.cpp as an encoder: hidden states of a layer, tokens, and the choice of the layer."""
