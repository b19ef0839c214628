"""What stands between the features of a tower and the embedding."""
