"""Published evaluation protocols and honest statistics."""
