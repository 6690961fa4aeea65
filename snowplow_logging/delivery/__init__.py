"""How events leave: the queue, the batches under way, the requests and the account of them."""
