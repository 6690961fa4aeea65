"""How events leave: where they wait, the batches under way, the requests, and the account of all."""
