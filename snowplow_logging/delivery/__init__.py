"""How events leave: where they wait, the batches under way, the requests, the account of all."""
