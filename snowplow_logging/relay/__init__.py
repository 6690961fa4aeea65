"""The relay: sends what handlers have left for it, in a store or with a broker."""
