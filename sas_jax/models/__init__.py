"""Networks and their loss: the transformer, the two VAEs, the lidars' law."""
