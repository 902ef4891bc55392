"""Ways to join modalities. Parts are [B, D_m], `present` is [B, M]; what is absent counts for nothing."""
