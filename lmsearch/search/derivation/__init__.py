"""From a trained supernet to the directions that every layer keeps."""
