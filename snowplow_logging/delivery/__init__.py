"""How events leave: where they wait, batches under way, requests, and the account of all."""
