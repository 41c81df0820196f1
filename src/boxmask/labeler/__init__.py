"""Labels a boxed data set with masks."""
