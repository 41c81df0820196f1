"""Class prototypes: unit vectors that stand for the parts of a class."""
