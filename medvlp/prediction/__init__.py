"""One study through a trained model, from files to findings and maps."""
