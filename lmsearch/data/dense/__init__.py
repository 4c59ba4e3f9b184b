"""Images with a class per pixel or with objects, in the layouts that people have them in."""
