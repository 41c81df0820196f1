"""boxmask: instance masks from box annotations."""
