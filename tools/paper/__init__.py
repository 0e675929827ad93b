"""The paper's tables and figures on a pair of yours."""
