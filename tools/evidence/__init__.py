"""The paper's tables on a pair of one's own: runs of `illava eval`, and the page made of them."""
